"""Running a simulation's loop from within a coroutine of another one, which stands still meanwhile.

A test may thus be run by any plugin, or by none: a simulated world goes on only while somebody looks at it.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import events, tasks
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from minuet.testing.simulation.loop import SimulationLoop

T = TypeVar("T")


def drive(loop: SimulationLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Go on in a simulation until this is done, wherever the caller runs. Raises what it raises."""
    with _aside():
        done: T = loop.run_until_complete(coroutine)
        return done


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Step out of the loop and the task that are running, if there are any, for as long as the block lasts."""
    outer = events._get_running_loop()  # noqa: SLF001 - as loops do
    if outer is None:
        yield
        return
    task = asyncio.current_task(outer)
    if task is not None:
        tasks._leave_task(outer, task)  # noqa: SLF001 - as loops do
    events._set_running_loop(None)  # noqa: SLF001 - as loops do
    try:
        yield
    finally:
        events._set_running_loop(outer)  # noqa: SLF001 - as loops do
        if task is not None:
            tasks._enter_task(outer, task)  # noqa: SLF001 - as loops do
