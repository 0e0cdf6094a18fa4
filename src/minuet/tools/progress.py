"""Progress on long work: on a terminal only, on stderr, and gone when the work is done."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from minuet.errors import MinuetError
from minuet.tools.output import age_text, escaped

if TYPE_CHECKING:
    from minuet.runtime.control import Control

_WIDTH = 28
_EACH_S = 0.5


class Bar:
    """A bar of so many things; silent where nobody looks."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total = label, max(1, total)
        self._shown = -1

    def show(self, done: int, more: str = "") -> None:
        """Show that so many are done."""
        if not sys.stderr.isatty() or (done == self._shown and not more):
            return
        self._shown = done
        filled = min(_WIDTH, _WIDTH * done // self._total)
        bar = "#" * filled + "-" * (_WIDTH - filled)
        _rewrite(f"{self._label} [{bar}] {done:,} of {self._total:,}{'  ' + more if more else ''}")

    def close(self) -> None:
        """Take the bar away."""
        _rewrite("")


@contextlib.asynccontextmanager
async def waiting_line(control: Control, run: str) -> AsyncIterator[None]:
    """Say, while the block lasts, where a run is that somebody waits for."""
    if not sys.stderr.isatty():
        yield
        return
    task = asyncio.create_task(_telling(control, run))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        _rewrite("")


async def _telling(control: Control, run: str) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while True:
        await asyncio.sleep(_EACH_S)
        with contextlib.suppress(MinuetError):  # whoever waits gets the error; this line is only for the eye
            view = await control.show(run, facts=False)
            _rewrite(f"waiting since {age_text(round((loop.time() - begun) * 1_000))}  {escaped(view.at)}")


def _rewrite(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[2K" + line)
        sys.stderr.flush()
