"""A program of Minuet as the works use it: in the process that measures, over one SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from minuet import App, Service, Workflow
from minuet.runtime.process import tune_process


@asynccontextmanager
async def open_app(
    services: Sequence[Service], workflows: Sequence[Workflow[Any, Any, Any]], store: Path
) -> AsyncIterator[App]:
    """Give an open program, in a process that is set as `minuet run` sets it."""
    async with App("bench", services=services, workflows=workflows, store=f"sqlite:///{store}") as app:
        tune_process()
        yield app
