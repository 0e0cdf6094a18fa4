"""The system's clock: the only module that reads time, waits for it, and draws anything."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from typing import Protocol

from minuet.engine.port import Clock


class WaitingClock(Clock, Protocol):
    """A clock that one can wait on."""

    async def sleep_ms(self, duration_ms: float) -> None:
        """Wait that long; 0 lets the event loop see to other things."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now_ms(self) -> int:
        """Give milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back; only differences mean something."""
        return time.monotonic_ns() // 1_000_000

    async def sleep_ms(self, duration_ms: float) -> None:
        """Wait that long; 0 lets the event loop see to other things."""
        await asyncio.sleep(duration_ms / 1000)


def new_owner() -> str:
    """Name this process as no other ever was: host, number, and something drawn, since numbers come again."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
