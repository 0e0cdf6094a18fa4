"""The clock of those who share a store: all go by the store's, each counting on from when it was last asked.

Their own may be an hour apart, and then a timer that one has set would be due too early or too late for the next. What
the store said is counted from when its answer came, so that the time is rather behind than ahead.
"""

from __future__ import annotations

from collections.abc import Callable

from minuet.runtime.clock import WaitingClock


class StoreClock:
    """The clock that a participant works with: that of its process, until it is told what the store's is."""

    def __init__(self, clock: WaitingClock) -> None:
        self.now_ms: Callable[[], int] = clock.now_ms  # no call more where nobody shares the store
        self.monotonic_ms: Callable[[], int] = clock.monotonic_ms
        self.sleep_ms = clock.sleep_ms
        self._ahead_ms = 0  # how far the store's time is ahead of what is measured here

    def follow(self, store_ms: int) -> None:
        """Go by the store's clock from now on: this is what it says."""
        self._ahead_ms = store_ms - self.monotonic_ms()
        self.now_ms = self._by_the_store

    def _by_the_store(self) -> int:
        return self.monotonic_ms() + self._ahead_ms
