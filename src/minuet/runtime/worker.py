"""Runs users' actions: a fixed number of slots, each a task that performs one action after the other.

An action that never suspends costs no task and no switch; one that does holds only its own slot. `asyncio`'s own means
(timeouts, task groups) work inside an action, since it always runs inside a task. A watchdog cuts off attempts
that take longer than they may; one that does not let itself be cut off is abandoned, and its slot given back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from minuet.contracts.handler import collecting
from minuet.engine import bound
from minuet.engine.answer import Answer, Failed
from minuet.engine.knowledge import Action
from minuet.engine.port import Statement
from minuet.runtime.clock import WaitingClock
from minuet.runtime.handler import Handler, Handlers, Refused
from minuet.runtime.threads import Threads
from minuet.runtime.transaction import StatementTransaction, until_first_statement

log = logging.getLogger("minuet")

WATCH_EVERY_MS = 250
CUT_GRACE_MS = 1_000  # how long an attempt that was cut off may take to clean up
IN_A_ROW = 64  # actions after which a slot lets the event loop see to other things


class Receiver(Protocol):
    """Who takes the answers."""

    def answered(self, action: Action, ticket: int, answer: Answer, events: list[object]) -> None:
        """Take the answer of an attempt, and what it has published."""
        ...

    def transacting(self, action: Action, handler: Handler, ticket: int, coroutine: object, first: Statement) -> None:
        """Take over a handler at its first statement."""
        ...


class _Slot:
    """One task that performs actions."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.wake: asyncio.Future[None] | None = None
        self.action: Action | None = None
        self.timeout_ms = 0
        self.began_ms = 0
        self.cut_ms = 0  # when it was told to stop; 0: it was not
        self.is_lost = False


class Worker:
    """Performs actions in slots; `slots` bounds how many are under way at once."""

    def __init__(
        self, receiver: Receiver, handlers: Handlers, clock: WaitingClock, *, slots: int, threads: Threads
    ) -> None:
        self._receiver = receiver
        self._handlers = handlers
        self._clock = clock
        self._limit = slots
        self._threads = threads
        self._queue: deque[Action] = deque()
        self._slots: set[_Slot] = set()
        self._idle: list[_Slot] = []
        self._waking = False
        self._stopping = False
        self._watchdog: asyncio.Task[None] | None = None
        self._all_idle: asyncio.Future[None] | None = None
        self._transaction = StatementTransaction()
        self.lost = 0  # slots whose action would not be cut off

    @property
    def queued(self) -> int:
        """Give how many actions wait for a slot."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Give how many actions are under way."""
        return sum(1 for s in self._slots if s.action is not None)

    def start(self, action: Action) -> None:
        """Have an action performed as soon as a slot is free."""
        if self._stopping:
            return  # it is due again after the next start: it follows from the facts
        self._queue.append(action)
        if not self._waking:
            self._wake()

    def interrupt(self, action: Action) -> None:
        """Cut off an attempt whose answer nobody waits for."""
        for slot in self._slots:
            if slot.action is action and not slot.cut_ms:
                self._cut(slot)

    def _wake(self) -> None:
        if self._idle:
            slot = self._idle.pop()
            assert slot.wake is not None
            self._waking = True
            slot.wake.set_result(None)
        elif len(self._slots) - self.lost < self._limit:
            slot = _Slot()
            self._slots.add(slot)
            self._waking = True
            slot.task = asyncio.get_running_loop().create_task(self._perform_all(slot), name="minuet-slot")
            if self._watchdog is None:
                self._watchdog = asyncio.get_running_loop().create_task(self._watch(), name="minuet-watchdog")

    async def _perform_all(self, slot: _Slot) -> None:
        queue, in_a_row = self._queue, 0
        while not slot.is_lost:
            self._waking = False
            if not queue:
                if self._all_idle is not None and not self._all_idle.done() and not self.running:
                    self._all_idle.set_result(None)
                slot.wake = asyncio.get_running_loop().create_future()
                self._idle.append(slot)
                await slot.wake
                in_a_row = 0
                continue
            action = queue.popleft()
            if queue and not self._waking:
                self._wake()  # should this action suspend, another slot goes on
            in_a_row += 1
            if in_a_row >= IN_A_ROW:
                in_a_row = 0
                await self._clock.sleep_ms(0)
            await self._perform(slot, action)
        self._slots.discard(slot)
        self.lost -= 1

    async def _perform(self, slot: _Slot, action: Action) -> None:
        ticket = action.ticket
        if action.state != "running":
            return  # it was called off while it waited for a slot
        about = action.rule.about
        handler = self._handlers.find(about["service"], about["action"])
        if handler is None:
            missing = Failed(f"no service here offers {about['service']}.{about['action']}", final=True)
            self._receiver.answered(action, ticket, missing, [])
            return
        slot.action = action
        slot.timeout_ms = about.get("attempt_timeout_ms") or handler.attempt_timeout_ms or bound.ATTEMPT_TIMEOUT_MS
        slot.began_ms = self._clock.monotonic_ms()
        try:
            await self._call(handler, action, ticket)
        except Exception as e:  # a mistake of ours about one action must not cost the slot
            log.exception("%s could not be performed", handler.name)
            self._receiver.answered(action, ticket, Failed(f"{type(e).__name__} inside the platform", final=True), [])
        except asyncio.CancelledError:
            if not slot.cut_ms:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            if not slot.is_lost:
                late = Failed(f"the attempt took longer than {slot.timeout_ms / 1000:g} s, and was cut off")
                self._receiver.answered(action, ticket, late, [])
        finally:
            slot.action = None
            slot.cut_ms = 0

    async def _call(self, handler: Handler, action: Action, ticket: int) -> None:
        try:
            arguments = handler.arguments(action)
        except Refused as refused:
            self._receiver.answered(action, ticket, refused.answer, [])
            return
        if handler.wants_context is not None:
            workflow = action.knowledge.program.plan.workflow
            arguments[handler.wants_context] = handler.context(action, workflow, _progress(action))
        if handler.transactional is not None:
            await self._call_transactional(handler, action, ticket, arguments)
            return
        events: list[object] = []
        answer: Answer
        try:
            if handler.emits:
                with collecting(handler.name, handler.emits) as events:
                    result = await self._result(handler, arguments)
            elif handler.is_async:
                result = await handler.function(handler.service, **arguments)
            else:
                result = await self._result(handler, arguments)
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            answer = handler.raised(e)  # the action itself was cancelled, by something that it called
        except BaseException as e:  # whatever a user's action raises is an answer: not even SystemExit ends the others
            answer = handler.raised(e)
            if isinstance(answer, Failed):
                log.debug("action failed: %s", handler.name, exc_info=e)
        else:
            answer = handler.done(result)
        self._receiver.answered(action, ticket, answer, events)

    async def _result(self, handler: Handler, arguments: dict[str, object]) -> object:
        if handler.is_async:
            return await handler.function(handler.service, **arguments)
        return await self._threads.call(lambda: handler.function(handler.service, **arguments))

    async def _call_transactional(
        self, handler: Handler, action: Action, ticket: int, arguments: dict[str, object]
    ) -> None:
        assert handler.transactional is not None
        arguments[handler.transactional] = self._transaction
        with collecting(handler.name, handler.emits) as events:
            coroutine = handler.function(handler.service, **arguments)
            answer: Answer
            try:
                first, result = await until_first_statement(coroutine)
            except asyncio.CancelledError as e:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                answer = handler.raised(e)
            except BaseException as e:  # as above
                answer = handler.raised(e)
            else:
                if first is not None:
                    self._receiver.transacting(action, handler, ticket, (coroutine, events), first)
                    return
                answer = handler.done(result)
        self._receiver.answered(action, ticket, answer, events)

    # The watchdog

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep_ms(WATCH_EVERY_MS)
            now = self._clock.monotonic_ms()
            for slot in list(self._slots):
                if slot.action is None:
                    continue
                if slot.cut_ms and now - slot.cut_ms > CUT_GRACE_MS and not slot.is_lost:
                    self._lose(slot)
                elif not slot.cut_ms and now - slot.began_ms > slot.timeout_ms:
                    self._cut(slot)

    def _cut(self, slot: _Slot) -> None:
        assert slot.task is not None
        slot.cut_ms = self._clock.monotonic_ms()
        slot.task.cancel()

    def _lose(self, slot: _Slot) -> None:
        """The action does not let itself be cut off: give its slot to another."""
        assert slot.action is not None
        slot.is_lost = True
        self.lost += 1
        about = slot.action.rule.about
        name = f"{about['service']}.{about['action']}"
        log.warning(
            "%s was cut off after %s ms and goes on all the same; its slot is given back", name, slot.timeout_ms
        )
        failed = Failed(f"the attempt took longer than {slot.timeout_ms / 1000:g} s, and does not stop")
        self._receiver.answered(slot.action, slot.action.ticket, failed, [])
        if self._queue:
            self._wake()

    async def stop(self, grace_ms: int) -> None:
        """Begin nothing more; wait for what is under way, at most this long, then cut it off."""
        self._stopping = True
        self._queue.clear()
        if self.running:
            self._all_idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_idle], timeout=grace_ms / 1000)
        tasks = [s.task for s in self._slots if s.task is not None]
        if self._watchdog is not None:
            tasks.append(self._watchdog)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_GRACE_MS / 1000)


def _progress(action: Action) -> Callable[[float, str], None]:
    def report(fraction: float, note: str) -> None:
        action.progress = (fraction, note)

    return report
