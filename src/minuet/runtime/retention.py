"""Forgets what is over: runs that ended long ago, with all that belongs to them, and events that all have heard."""

from __future__ import annotations

from minuet.errors import StoreError
from minuet.runtime.clock import WaitingClock
from minuet.runtime.participant import Participant

LOOK_EVERY_MS = 60_000
BATCH = 500


class Retention:
    """One for each participant."""

    def __init__(self, participant: Participant, clock: WaitingClock, retention_ms: int, events_ms: int) -> None:
        self._participant = participant
        self._clock = clock
        self._retention_ms = retention_ms
        self._events_ms = events_ms

    def open(self) -> None:
        """Begin."""
        self._participant.spawn(self._run())

    async def _run(self) -> None:
        while True:
            await self._clock.sleep_ms(LOOK_EVERY_MS)
            if not self._participant.sees_to("retention"):
                continue
            forgotten = BATCH
            while forgotten == BATCH:
                try:
                    forgotten = await self._participant.store.forget(self._clock.now_ms() - self._retention_ms, BATCH)
                except StoreError:
                    break
                await self._clock.sleep_ms(0)
            await self._forget_events()

    async def _forget_events(self) -> None:
        store, forgotten = self._participant.store, BATCH
        try:
            until = await store.entry_before(self._clock.now_ms() - self._events_ms)
            while until and forgotten == BATCH:
                forgotten = await store.forget_events(until, BATCH)
                await self._clock.sleep_ms(0)
        except StoreError:
            return  # the next round sees to it
