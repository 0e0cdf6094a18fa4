"""Takes up what was going on when the last process stopped: a loop over the runs that have something to do.

Runs that only wait stay in the store. Recovery needs no command, goes on beside new work, and takes no more runs
into memory than fit. Where several participants share the store, each shard that is gained is taken up likewise.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from minuet.engine.port import StoredRun
from minuet.engine.row import Lease
from minuet.errors import Busy, StoreError
from minuet.ids import SHARDS_MAX
from minuet.runtime.clock import WaitingClock
from minuet.runtime.participant import Participant

log = logging.getLogger("minuet")

PAGE = 200
LOOK_EVERY_MS = 20_000


class Recovery:
    """One for each opening of a store."""

    def __init__(self, participant: Participant, clock: WaitingClock) -> None:
        self._participant = participant
        self._clock = clock
        self._running = 0
        self.recovered = 0

    @property
    def is_running(self) -> bool:
        """Whether something is being taken up."""
        return self._running > 0

    def open(self) -> None:
        """Begin."""
        if self._participant.ownership is None:
            self._running += 1
            self._participant.spawn(self._run(None, crashed=True))
        else:
            self._participant.spawn(self._watch())

    def take_up(self, leases: Collection[Lease]) -> None:
        """Take up what the former owners of shards have left."""
        self._running += 1
        self._participant.taking_up |= {lease.shard for lease in leases}
        self._participant.spawn(self._run(frozenset(leases), crashed=True))

    async def _run(self, leases: frozenset[Lease] | None, *, crashed: bool) -> None:
        recovered = self.recovered
        try:
            await self._take_up(leases, crashed=crashed)
        finally:
            self._running -= 1
        if leases is not None and crashed:
            self._participant.taking_up -= {lease.shard for lease in leases if self._is_held(lease)}
        if self.recovered > recovered:
            log.info("took up %s runs that had something to do", self.recovered - recovered)

    async def _take_up(self, leases: frozenset[Lease] | None, *, crashed: bool) -> None:
        participant, after, delay_ms = self._participant, 0, 100
        while leases is None or any(self._is_held(lease) for lease in leases):
            try:
                runs = await participant.store.runs_to_load(after, PAGE, self._shards(leases))
                with participant.reading() as moved:
                    for stored in await participant.store.load_runs([r for r in runs if r not in participant.runs]):
                        await participant.know(stored.run.digest)
                        await participant.room(wait=True)
                        if stored.run.run not in moved:
                            self._recall(stored, leases, crashed=crashed)
            except StoreError:
                await self._clock.sleep_ms(delay_ms)
                delay_ms = min(2 * delay_ms, 5_000)
                continue
            except Busy:
                return  # the program is stopping, or owns nothing any more
            if not runs:
                return
            after = runs[-1]
            await self._clock.sleep_ms(0)

    def _recall(self, stored: StoredRun, leases: frozenset[Lease] | None, *, crashed: bool) -> None:
        lease, ownership = None, self._participant.ownership
        if leases is not None and ownership is not None:
            lease = ownership.lease_of(stored.run.run)
            if lease not in leases:
                return  # it was lost since; taken once more, it is taken up once more
        self._participant.recall(stored, crashed=crashed, lease=lease)
        self.recovered += 1

    def _shards(self, leases: frozenset[Lease] | None) -> Collection[int] | None:
        ownership = self._participant.ownership
        if leases is None or ownership is None:
            return None
        shards = {lease.shard for lease in leases}
        return [shard for shard in range(SHARDS_MAX) if shard % ownership.shards in shards]

    def _is_held(self, lease: Lease) -> bool:
        ownership = self._participant.ownership
        return ownership is not None and ownership.lease_of_shard(lease.shard) == lease

    async def _watch(self) -> None:
        """Look for runs that have something to do and that nobody has in memory, now and then.

        Of what has begun the answer may have been lost on the way, and with it whoever was to go on.
        """
        ownership = self._participant.ownership
        assert ownership is not None, "only what is shared is looked at again"
        while True:
            await self._clock.sleep_ms(LOOK_EVERY_MS)
            if (held := ownership.held) and not self.is_running:
                self._running += 1
                await self._run(frozenset(held), crashed=False)
