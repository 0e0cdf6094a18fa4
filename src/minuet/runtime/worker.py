"""Runs users' actions: decodes their arguments, calls them in slots, and classifies what they answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from minuet.contracts.handler import collecting
from minuet.engine import bound
from minuet.engine.answer import Answer, Done, Failed
from minuet.engine.knowledge import COMPENSATION, Action
from minuet.engine.port import Statement, Store
from minuet.engine.row import EventRow
from minuet.engine.taken_back import notices_about, published_prefix
from minuet.errors import StoreError
from minuet.runtime.clock import WaitingClock
from minuet.runtime.handler import Handler, Handlers, Refused
from minuet.runtime.ledger import Ledger
from minuet.runtime.slots import Slot, Slots, watch
from minuet.runtime.threads import ThreadPool
from minuet.runtime.transaction import StatementTransaction, until_first_statement

log = logging.getLogger("minuet")


class Receiver(Protocol):
    """Who takes the answers."""

    store: Store

    def answered(self, action: Action, ticket: int, answer: Answer, events: list[object]) -> None:
        """Take the answer of an attempt, and what it has published."""
        ...

    def transacting(self, action: Action, handler: Handler, ticket: int, coroutine: object, first: Statement) -> None:
        """Take over a handler at its first statement."""
        ...


class Worker:
    """Performs actions in slots; `slots` bounds how many are under way at once."""

    def __init__(
        self, receiver: Receiver, handlers: Handlers, clock: WaitingClock, *, slots: int, threads: ThreadPool
    ) -> None:
        self._receiver = receiver
        self._handlers = handlers
        self._clock = clock
        self._threads = threads
        self._slots: Slots[Action] = Slots(self, clock, limit=slots, name="minuet-slot")
        self._watchdog: asyncio.Task[None] | None = None
        self._transaction = StatementTransaction()
        self.may_begin: Callable[[Action], bool] | None = None  # None: whatever is due is ours
        self.ledger: Ledger | None = None  # None: no action here takes effect once for a key
        self.start: Callable[[Action], None] = (
            self._slots.put
        )  # what is not begun when it stops is due again: it follows from the facts
        self.interrupt: Callable[[Action], None] = self._slots.interrupt

    @property
    def queued(self) -> int:
        """Give how many actions wait for a slot."""
        return self._slots.queued

    @property
    def running(self) -> int:
        """Give how many actions are under way."""
        return self._slots.running

    @property
    def lost(self) -> int:
        """Give how many slots are lost to actions that would not be cut off."""
        return self._slots.lost

    async def stop(self, grace_ms: int) -> None:
        """Begin nothing more; wait for what is under way, at most this long, then cut it off."""
        await self._slots.stop(grace_ms)
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.wait([self._watchdog])

    # In a slot

    def begin(self, slot: Slot, action: Action) -> bool:
        """Say how long an action may take; False if it was called off while it waited for a slot."""
        if action.state != "running":
            return False
        if self.may_begin is not None and not self.may_begin(action):
            return False  # whoever owns the run by now performs it
        if self._watchdog is None:
            self._watchdog = asyncio.get_running_loop().create_task(watch([self._slots], self._clock))
        about = action.rule.about
        handler = self._handlers.find(about["service"], about["action"])
        if handler is None:
            missing = Failed(f"no service here offers {about['service']}.{about['action']}", final=True)
            self._receiver.answered(action, action.ticket, missing, [])
            return False
        slot.name = handler.name
        slot.ticket = action.ticket
        slot.timeout_ms = about.get("attempt_timeout_ms") or handler.attempt_timeout_ms or bound.ATTEMPT_TIMEOUT_MS
        slot.about = handler
        return True

    async def perform(self, slot: Slot, action: Action) -> None:
        """Call an action, and tell its answer."""
        handler: Handler = slot.about
        ticket = slot.ticket
        try:
            arguments = handler.arguments(action)
        except Refused as refused:
            self._receiver.answered(action, ticket, refused.answer, [])
            return
        if self.ledger is not None:
            admitted = await self.ledger.admit(action, handler, arguments, ticket)
            if admitted is None:
                return
            handler = admitted
        if handler.wants_context is not None:
            workflow = action.knowledge.program.plan.workflow
            arguments[handler.wants_context] = handler.context(action, workflow, _progress(action))
        notices: list[EventRow] = []
        if handler.takes_back and action.direction == COMPENSATION:
            try:
                notices = await self._notices(action)
            except StoreError as e:
                self._receiver.answered(action, ticket, Failed(f"what it takes back cannot be read: {e}"), [])
                return
        if handler.transactional is not None:
            await self._call_transactional(handler, action, ticket, arguments, notices)
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
        # What fails has published nothing.
        self._receiver.answered(action, ticket, answer, [*notices, *events] if isinstance(answer, Done) else [])

    async def _notices(self, action: Action) -> list[EventRow]:
        """Give what is to be published beside the fact that a step is compensated."""
        prefix = published_prefix(action.knowledge.run, action.rule.position, action.round)
        return notices_about(await self._receiver.store.published_by(prefix), self._clock.now_ms())

    async def _result(self, handler: Handler, arguments: dict[str, object]) -> object:
        if handler.is_async:
            return await handler.function(handler.service, **arguments)
        return await self._threads.call(lambda: handler.function(handler.service, **arguments))

    async def _call_transactional(
        self,
        handler: Handler,
        action: Action,
        ticket: int,
        arguments: dict[str, object],
        notices: list[EventRow],
    ) -> None:
        assert handler.transactional is not None
        arguments[handler.transactional] = self._transaction
        with collecting(handler.name, handler.emits) as events:
            events += notices
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
        self._receiver.answered(action, ticket, answer, events if isinstance(answer, Done) else [])

    def failed(self, slot: Slot, action: Action, failure: Failed) -> None:
        """Take that an action was cut off."""
        self._receiver.answered(action, slot.ticket, failure, [])


def _progress(action: Action) -> Callable[[float, str], None]:
    def report(fraction: float, note: str) -> None:
        action.progress = (fraction, note)

    return report
