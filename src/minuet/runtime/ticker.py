"""Looks at what is due: timers and retries of the near future from a heap, all others from the store.

The store is the truth, and is polled; the heap only makes the near future exact. A timer that is looked at
twice, or too early, has no effect: the engine decides whether it is due.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from minuet.engine import decide
from minuet.engine.knowledge import Action
from minuet.engine.row import TimerRow
from minuet.errors import StoreError
from minuet.runtime.clock import WaitingClock
from minuet.runtime.participant import Participant

NEAR_MS = 60_000
POLL_EVERY_MS = 20_000
BATCH = 500
PAGE = 5_000


class Ticker:
    """One for each participant."""

    def __init__(self, participant: Participant, clock: WaitingClock) -> None:
        self._participant = participant
        self._clock = clock
        self._count = itertools.count()
        self._heap: list[tuple[int, int, TimerRow | Action]] = []
        self._in_heap: set[TimerRow] = set()
        self._changed = asyncio.Event()
        self._poll_now = False
        self._task: asyncio.Task[None] | None = None

    def add_timer(self, timer: TimerRow) -> None:
        """Look at a timer when it is due; what is far away is left to the store."""
        if timer.due_at_ms - self._clock.now_ms() <= NEAR_MS and timer not in self._in_heap:
            self._in_heap.add(timer)
            self._push(timer.due_at_ms, timer)

    def add_retry(self, action: Action) -> None:
        """Look at an action when its delay is over."""
        self._push(action.next_at_ms, action)

    def look(self) -> None:
        """Ask the store what is due: there may be more than was here when it was asked before."""
        self._poll_now = True
        self._changed.set()

    def _push(self, due_at_ms: int, what: TimerRow | Action) -> None:
        heapq.heappush(self._heap, (due_at_ms, next(self._count), what))
        if self._heap[0][2] is what:
            self._changed.set()

    def open(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="minuet-ticker")

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        poll_ms, polled_ms = 0, 0
        while True:
            now = self._clock.now_ms()
            if now >= poll_ms or now < polled_ms or self._poll_now:  # it is time, or the clock has been put back
                self._poll_now = False
                polled_ms, poll_ms = now, await self._poll(now)
            await self._look(now)
            next_ms = min(poll_ms, self._heap[0][0]) if self._heap else poll_ms
            self._changed.clear()
            if self._poll_now:
                continue
            if next_ms <= self._clock.now_ms():
                await self._clock.sleep_ms(0)
                continue
            sleeping = asyncio.ensure_future(self._sleep_until(next_ms))
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait([sleeping, changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                changed.cancel()

    async def _sleep_until(self, due_ms: int) -> None:
        await self._clock.sleep_ms(due_ms - self._clock.now_ms())  # by the time when it begins, which is not now

    async def _look(self, now: int) -> None:
        """Give what is due to its runs, in batches: a storm of timers must not stop everything else."""
        looked = 0
        while self._heap and self._heap[0][0] <= now:
            _, _, what = heapq.heappop(self._heap)
            if isinstance(what, TimerRow):
                self._in_heap.discard(what)
                try:
                    await self._participant.timer_due(what)
                except StoreError:
                    continue  # it is still in the store, and is found by the next poll
            else:
                k = what.knowledge
                self._participant.input(k, lambda a=what: decide.retry_due(a.knowledge, a, self._clock.now_ms()))  # type: ignore[misc]
            looked += 1
            if looked % BATCH == 0:
                await self._clock.sleep_ms(0)

    async def _poll(self, now: int) -> int:
        """Ask the store what is due soon; gives when to ask again: sooner where there is more than one page of it."""
        store = self._participant.store
        try:
            timers = await store.timers_due(now + NEAR_MS, PAGE, self._participant.shards)
            attempts = await store.attempts_due(now, PAGE, self._participant.shards)
            for timer in timers:
                self.add_timer(timer)
            for attempt in attempts:
                await self._participant.load(attempt.run)
        except StoreError:
            return now + POLL_EVERY_MS
        if len(attempts) == PAGE:
            return now
        return min(now + POLL_EVERY_MS, timers[-1].due_at_ms) if len(timers) == PAGE else now + POLL_EVERY_MS
