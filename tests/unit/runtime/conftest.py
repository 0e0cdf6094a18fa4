"""A service with a table, and an app over a store in memory with a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from minuet import App, Service
from minuet.testing.clock import ManualClock


@asynccontextmanager
async def opened(services: list[Service], workflows: list[Any], **more: Any) -> AsyncIterator[tuple[App, ManualClock]]:
    """Open an app over a store in memory."""
    clock = ManualClock()
    app = App("test", services=services, workflows=workflows, store="sqlite://", clock=clock, **more)
    async with app:
        yield app, clock


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so that the store's thread brings about."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.001)
