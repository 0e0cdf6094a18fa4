"""Who waits for which run to end: told when it ends here, and by looking at its row where somebody else may own it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice

from minuet.engine.port import Store
from minuet.engine.row import SETTLED
from minuet.errors import StoreError
from minuet.runtime.clock import WaitingClock

LOOK_EVERY_MS = 1_000
PAGE = 200


class Ends:
    """The futures of those who wait in this process."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._news: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """Give how many runs are waited for."""
        return len(self._waiting)

    def wait(self, run: int) -> asyncio.Future[None]:
        """Give a future that is done when nothing more happens by itself in the run: it has ended, or is parked.

        It raises NotRunning when the program is closed before. Whoever does not wait for it any more says `unheard`.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, []).append(waiter)
        return waiter

    def unheard(self, run: int, waiter: asyncio.Future[None]) -> None:
        """Forget a future that nobody waits for any more."""
        if not waiter.cancel() and not waiter.cancelled():
            waiter.exception()  # whoever gave it up knows
        waiters = self._waiting.get(run, [])
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[run]

    def wake(self, run: int, error: Exception | None = None) -> None:
        """Tell those who wait for a run."""
        for waiter in self._waiting.pop(run, ()):
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def close(self, error: Exception) -> None:
        """Tell everybody."""
        for run in list(self._waiting):
            self.wake(run, error)

    # Where several participants share the store

    def look(self) -> None:
        """Look at the rows now: others have done something."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def watch(self, store: Store, clock: WaitingClock, is_here: Callable[[int], bool]) -> None:
        """Look at the rows of runs that are waited for and not in memory, now and then."""
        while True:
            for page in _pages(run for run in list(self._waiting) if not is_here(run)):
                try:
                    stored = {s.run.run: s.run for s in await store.load_runs(page)}
                except StoreError:
                    break
                for run in page:
                    if run not in stored or stored[run].state in SETTLED:
                        self.wake(run)  # also where it has been forgotten: whoever asks is told
            self._news = asyncio.get_running_loop().create_future()
            sleeping = asyncio.ensure_future(clock.sleep_ms(LOOK_EVERY_MS))
            try:
                await asyncio.wait([sleeping, self._news], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()


def _pages(runs: Iterator[int]) -> Iterator[list[int]]:
    while page := list(islice(runs, PAGE)):
        yield page
