"""Forgets runs that ended long ago: the run, its facts and all that belongs to it, in one transaction."""

from __future__ import annotations

from minuet.errors import StoreError
from minuet.runtime.clock import WaitingClock
from minuet.runtime.participant import Participant

LOOK_EVERY_MS = 60_000
BATCH = 500


class Retention:
    """One for each participant."""

    def __init__(self, participant: Participant, clock: WaitingClock, retention_ms: int) -> None:
        self._participant = participant
        self._clock = clock
        self._retention_ms = retention_ms

    def open(self) -> None:
        """Begin."""
        self._participant.spawn(self._run())

    async def _run(self) -> None:
        while True:
            await self._clock.sleep_ms(LOOK_EVERY_MS)
            forgotten = BATCH
            while forgotten == BATCH:
                try:
                    forgotten = await self._participant.store.forget(self._clock.now_ms() - self._retention_ms, BATCH)
                except StoreError:
                    break
                await self._clock.sleep_ms(0)
