"""Slots: a fixed number of tasks that perform one piece of work after the other, for actions and reactions alike.

What never suspends costs no task and no switch; what does holds only its own slot. `asyncio`'s own means (timeouts,
task groups) work inside of it, since it always runs inside a task. A watchdog cuts off what takes longer than it may;
what does not let itself be cut off is abandoned, and its slot given back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

from minuet.engine.answer import Failed
from minuet.runtime.clock import WaitingClock

log = logging.getLogger("minuet")

WATCH_EVERY_MS = 250
CUT_GRACE_MS = 1_000  # how long what was cut off may take to clean up
IN_A_ROW = 64  # pieces of work after which a slot lets the event loop see to other things

T = TypeVar("T")
W_contra = TypeVar("W_contra", contravariant=True)


class Performer(Protocol[W_contra]):
    """Who knows how a piece of work is performed."""

    def begin(self, slot: Slot, work: W_contra) -> bool:
        """Say in the slot how long it may take, and what else is to be known again; False: nothing is to be done."""
        ...

    async def perform(self, slot: Slot, work: W_contra) -> None:
        """Perform it, and tell whoever waits for it. Nothing is to be told of a slot that is lost."""
        ...

    def failed(self, slot: Slot, work: W_contra, failure: Failed) -> None:
        """Take that it was cut off, or that performing it went wrong inside the platform."""
        ...


class Slot:
    """One task, and what it is performing. `about` and `ticket` are for who performs, to be seen again."""

    __slots__ = ("about", "began_ms", "cut_ms", "is_lost", "name", "task", "ticket", "timeout_ms", "wake", "work")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.wake: asyncio.Future[None] | None = None
        self.work: Any = None
        self.name = ""
        self.about: Any = None
        self.ticket = 0
        self.timeout_ms = 0
        self.began_ms = 0
        self.cut_ms = 0  # when it was told to stop; 0: it was not
        self.is_lost = False


class Slots(Generic[T]):
    """Performs what is put in, in its order; `limit` bounds how much is under way at once."""

    def __init__(self, performer: Performer[T], clock: WaitingClock, *, limit: int, name: str) -> None:
        self._performer = performer
        self._clock = clock
        self._limit = limit
        self._name = name
        self._queue: deque[T] = deque()
        self._slots: set[Slot] = set()
        self._idle: list[Slot] = []
        self._waking = False
        self._stopping = False
        self._all_idle: asyncio.Future[None] | None = None
        self.lost = 0  # slots whose work would not be cut off

    @property
    def queued(self) -> int:
        """Give how much waits for a slot."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Give how much is under way."""
        return sum(1 for slot in self._slots if slot.work is not None)

    def put(self, work: T) -> None:
        """Have something performed as soon as a slot is free; nothing is any more when it is stopping."""
        if self._stopping:
            return
        self._queue.append(work)
        if not self._waking:
            self._wake()

    def interrupt(self, work: T) -> None:
        """Cut off something whose end nobody waits for."""
        for slot in self._slots:
            if slot.work is work and not slot.cut_ms:
                self._cut(slot)

    def _wake(self) -> None:
        if self._idle:
            slot = self._idle.pop()
            assert slot.wake is not None
            self._waking = True
            slot.wake.set_result(None)
        elif len(self._slots) - self.lost < self._limit:
            slot = Slot()
            self._slots.add(slot)
            self._waking = True
            slot.task = asyncio.get_running_loop().create_task(self._perform_all(slot), name=self._name)

    async def _perform_all(self, slot: Slot) -> None:
        queue, performer, clock, in_a_row = self._queue, self._performer, self._clock, 0
        while not slot.is_lost:
            self._waking = False
            if not queue:
                await self._until_woken(slot)
                in_a_row = 0
                continue
            work = queue.popleft()
            if queue:
                self._wake()  # should this one suspend, another slot goes on
            in_a_row += 1
            if in_a_row >= IN_A_ROW:
                in_a_row = 0
                await clock.sleep_ms(0)
            if not performer.begin(slot, work):
                continue
            slot.work = work
            slot.began_ms = clock.monotonic_ms()
            try:
                await performer.perform(slot, work)
            except Exception as e:  # a mistake of ours about one of them must not cost the slot
                log.exception("%s could not be performed", slot.name)
                if not slot.is_lost:
                    performer.failed(slot, work, Failed(f"{type(e).__name__} inside the platform", final=True))
            except asyncio.CancelledError:
                if not slot.cut_ms:
                    raise
                self._was_cut(slot, work)
            finally:
                slot.work = None
                slot.cut_ms = 0
        self._slots.discard(slot)
        self.lost -= 1

    async def _until_woken(self, slot: Slot) -> None:
        if self._all_idle is not None and not self._all_idle.done() and not self.running:
            self._all_idle.set_result(None)
        slot.wake = asyncio.get_running_loop().create_future()
        self._idle.append(slot)
        await slot.wake

    def _was_cut(self, slot: Slot, work: T) -> None:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        if not slot.is_lost:
            late = Failed(f"the attempt took longer than {slot.timeout_ms / 1000:g} s, and was cut off")
            self._performer.failed(slot, work, late)

    def watch(self) -> None:
        """Cut off what takes longer than it may, and give back slots of what does not stop."""
        now = self._clock.monotonic_ms()
        for slot in list(self._slots):
            if slot.work is None or slot.is_lost:
                continue
            if slot.cut_ms and now - slot.cut_ms > CUT_GRACE_MS:
                self._lose(slot)
            elif not slot.cut_ms and now - slot.began_ms > slot.timeout_ms:
                self._cut(slot)

    def _cut(self, slot: Slot) -> None:
        assert slot.task is not None
        slot.cut_ms = self._clock.monotonic_ms()
        slot.task.cancel()

    def _lose(self, slot: Slot) -> None:
        """What it does is not to be cut off: give its slot to another."""
        slot.is_lost = True
        self.lost += 1
        log.warning(
            "%s was cut off after %s ms and goes on all the same; its slot is given back", slot.name, slot.timeout_ms
        )
        failure = Failed(f"the attempt took longer than {slot.timeout_ms / 1000:g} s, and does not stop")
        self._performer.failed(slot, slot.work, failure)
        if self._queue:
            self._wake()

    async def stop(self, grace_ms: int) -> None:
        """Begin nothing more; wait for what is under way, at most this long, then cut it off."""
        self._stopping = True
        self._queue.clear()
        if self.running:
            self._all_idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_idle], timeout=grace_ms / 1000)
        tasks = [slot.task for slot in self._slots if slot.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_GRACE_MS / 1000)


async def watch(pools: Iterable[Slots[T]], clock: WaitingClock) -> None:
    """Have each of these watched, for as long as the caller's task lives."""
    while True:
        await clock.sleep_ms(WATCH_EVERY_MS)
        for pool in pools:
            pool.watch()
