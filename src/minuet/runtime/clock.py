"""The system's clock: the only module that reads time."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The clock of this machine."""

    def now_ms(self) -> int:
        """Give milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back; only differences mean something."""
        return time.monotonic_ns() // 1_000_000

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait that long."""
        await asyncio.sleep(duration_ms / 1000)
