"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import timedelta

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class ManualClock:
    """Time that a test moves: sleepers wake when the time that they wait for is reached.

    `await clock.advance(timedelta(days=14))` goes from sleeper to sleeper, and lets each act before the next.
    """

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Give milliseconds since 1970 UTC."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back."""
        return self._now_ms

    async def sleep_ms(self, duration_ms: float) -> None:
        """Wait until a test has moved the time that far; 0 lets the event loop see to other things."""
        if duration_ms <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_ms + round(duration_ms), next(self._order), woken))
        await woken

    async def advance(self, by: timedelta) -> None:
        """Move the time, waking each sleeper at its own instant."""
        target = self._now_ms + round(by / timedelta(milliseconds=1))
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue
            self._now_ms = max(self._now_ms, due)
            woken.set_result(None)
            await self._settle()
        self._now_ms = target
        await self._settle()

    async def _settle(self) -> None:
        """Let everything that became ready run; what a store's thread brings comes in its own time."""
        for _ in range(20):
            await asyncio.sleep(0)
