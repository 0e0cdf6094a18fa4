"""Takes up what was going on when the last process stopped: a loop over the runs that have something to do.

Runs that only wait stay in the store. Recovery needs no command, goes on beside new work, and takes no more runs
into memory than fit.
"""

from __future__ import annotations

import logging

from minuet.errors import StoreError
from minuet.runtime.clock import WaitingClock
from minuet.runtime.participant import Participant

log = logging.getLogger("minuet")

PAGE = 200


class Recovery:
    """One for each opening of a store."""

    def __init__(self, participant: Participant, clock: WaitingClock) -> None:
        self._participant = participant
        self._clock = clock
        self.is_running = False
        self.recovered = 0

    def open(self) -> None:
        """Begin."""
        self.is_running = True
        self._participant.spawn(self._run())

    async def _run(self) -> None:
        participant, after, delay_ms = self._participant, 0, 100
        while True:
            try:
                runs = await participant.store.runs_to_load(after, PAGE)
                with participant.reading() as moved:
                    for stored in await participant.store.load_runs([r for r in runs if r not in participant.runs]):
                        await participant.room(wait=True)
                        if stored.run.run not in moved:
                            participant.recall(stored, crashed=True)
                            self.recovered += 1
            except StoreError:
                await self._clock.sleep_ms(delay_ms)
                delay_ms = min(2 * delay_ms, 5_000)
                continue
            if not runs:
                break
            after = runs[-1]
            await self._clock.sleep_ms(0)
        self.is_running = False
        if self.recovered:
            log.info("took up %s runs that had something to do", self.recovered)
