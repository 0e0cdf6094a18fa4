"""The clocks of simulated processes: each with its offset and its drift, and now and then a jump."""

from __future__ import annotations

import asyncio

from minuet.testing.clock import START_MS
from minuet.testing.simulation.loop import SimulationLoop


class ProcessClock:
    """What one process takes for the time.

    `offset_ms`: how far its wall clock is ahead. `rate`: how many of its seconds pass in one; it shows in all that it
    measures and waits for.
    """

    def __init__(self, loop: SimulationLoop, *, offset_ms: int = 0, rate: float = 1.0) -> None:
        self._loop = loop
        self._rate = rate
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        """Give milliseconds since 1970 UTC, as this process sees them."""
        return START_MS + self.monotonic_ms() + self.offset_ms

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back."""
        return int(self._loop.time() * 1000 * self._rate + 1e-6)

    def jump(self, by_ms: int) -> None:
        """Put the wall clock forward, or back."""
        self.offset_ms += by_ms

    async def sleep_ms(self, duration_ms: float) -> None:
        """Wait that long by this clock; 0 lets other things of the process go on."""
        if duration_ms <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = self._loop.create_future()
        # A little more than asked for, since `now_ms` is rounded down: whoever wakes is not to be too early.
        timer = self._loop.call_later((duration_ms + 1e-3) / 1000 / self._rate, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()


async def pass_time(seconds: float) -> None:
    """Let that much simulated time pass, by nobody's clock."""
    await asyncio.sleep(seconds)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
