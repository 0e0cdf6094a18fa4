"""Which shards of a shared store are owned here: claimed, renewed, shared out, given back, and given up in time.

Time decides who tries, and the epoch decides who wins: whatever is decided about a run bears the lease of its shard,
and the store refuses what is decided under a lease that somebody else has taken over. Renewals are sent from the loop
that does the work, so whoever is held up loses his shards. He stops by himself at two thirds of the time from the
sending of his last renewal, so that his clock need not agree with the store's.

Whoever owns nothing is seen by nobody; he leaves word for an owner, who then counts him in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from minuet.engine.port import RunFilter, Store
from minuet.engine.row import Lease
from minuet.errors import Busy, StaleOwner, StoreError
from minuet.ids import SHARDS_MAX, RunIds, shard_of, shard_of_name
from minuet.runtime.clock import WaitingClock

log = logging.getLogger("minuet")

LOOK_EVERY_MS = 1_000
BELIEVED_MS = 3_000  # whoever owns nothing says so again each time that it looks
WAIT_LEASES = 2  # how many leases' time somebody waits here for a first shard


@dataclass(slots=True)
class _Held:
    lease: Lease
    until_ms: int  # monotonic


class Ownership:
    """The shards that one participant owns. `shards`: how many the store has; `lease_ms`: how long a lease runs.

    Set before it is opened: `on_gained` and `on_lost` are called at once with leases that have come and gone, `on_time`
    with what the store's clock says; `busy` counts what is under way by shard; `ask` leaves word for some owner that
    nothing is owned here.
    """

    def __init__(
        self, store: Store, clock: WaitingClock, ids: RunIds, *, owner: str, shards: int, lease_ms: int
    ) -> None:
        self.owner = owner
        self.shards = shards
        self.lease_ms = lease_ms
        self.on_gained: Callable[[Collection[Lease]], None] = lambda _: None
        self.on_lost: Callable[[Collection[Lease]], None] = lambda _: None
        self.busy: Callable[[], Mapping[int, int]] = dict
        self.ask: Callable[[], Awaitable[None]] | None = None
        self._store = store
        self._clock = clock
        self._ids = ids
        self._held: dict[int, _Held] = {}
        self.on_time: Callable[[int], object] = lambda _: None
        self._to_return: list[Lease] = []  # not used any more, and the store does not know it yet
        self._renew_at_ms = 0
        self._turn = 0
        self._wanting: dict[str, int] = {}  # who owns nothing and wants something -> until when that is believed
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closed = False
        self.taken = 0  # leases, ever
        self.lost = 0  # leases that were not given back by ourselves

    # What is owned

    @property
    def held(self) -> list[Lease]:
        """Give the leases that are held."""
        return [held.lease for held in self._held.values()]

    @property
    def owns_some(self) -> bool:
        """Whether any shard is owned."""
        return bool(self._held)

    @property
    def residues(self) -> list[int]:
        """Give the shards that ids of our runs may have: those of runs that began in a store of more shards fold."""
        return [shard for shard in range(SHARDS_MAX) if shard % self.shards in self._held]

    def shard(self, run: int) -> int:
        """Give the shard of this store that a run belongs to, also if it began in another store."""
        return shard_of(run) % self.shards

    def lease_of(self, run: int) -> Lease | None:
        """Give the lease under which a run may be decided; None if somebody else may."""
        held = self._held.get(shard_of(run) % self.shards)
        return None if held is None else held.lease

    def lease_of_shard(self, shard: int) -> Lease | None:
        """Give the lease of a shard; None if it is not owned."""
        held = self._held.get(shard)
        return None if held is None else held.lease

    def lease_of_name(self, name: str) -> Lease | None:
        """Give the lease under which something is done that has a name and is no run; None if somebody else does it."""
        held = self._held.get(shard_of_name(name, self.shards))
        return None if held is None else held.lease

    def is_held(self, lease: Lease | None) -> bool:
        """Say whether a lease is held; whose time by our own clock is over is held no more from this moment on."""
        if lease is None or not self._held_as(lease):
            return False
        self._give_up_what_is_over()
        return self._held_as(lease)

    def next_lease(self) -> Lease | None:
        """Give the lease of a shard for a new run, one after the other; None if none is owned."""
        if not self._held:
            return None
        self._turn += 1
        leases = list(self._held.values())
        return leases[self._turn % len(leases)].lease

    async def until_some(self, *, wait: bool) -> None:
        """Wait until a shard is owned.

        Raises:
            Busy: none came in time (or `wait` is False).
        """
        if self._held:
            return
        if wait and not self._is_closed:
            some: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(some)
            sleeping = asyncio.ensure_future(self._clock.sleep_ms(WAIT_LEASES * self.lease_ms))
            try:
                await asyncio.wait([some, sleeping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                if some in self._waiting:
                    self._waiting.remove(some)
        if not self._held:
            raise Busy(
                f"none of the {self.shards} shards of the store is owned by this process",
                remedy="Try again after a while, or ask another process; more processes than shards are of no use",
            )

    def refused(self, error: StaleOwner, fence: Lease | None) -> None:
        """Take that something was not recorded since somebody else has the shard by now."""
        if fence is None and {"shard", "epoch"} <= error.subject.keys():
            fence = Lease(error.subject["shard"], error.subject["epoch"])
        if fence is not None and self._held_as(fence):
            self._give_up([fence], "somebody else has taken over")

    def wanted_by(self, owner: str) -> None:
        """Take that somebody owns nothing and wants something."""
        self._wanting[owner] = self._clock.monotonic_ms() + BELIEVED_MS

    # Taking and giving

    async def open(self) -> None:
        """Claim what is free, up to a fair share, and go on looking."""
        with suppress(StoreError):  # it is asked again
            await self.ask_the_time()
            await self._share_out()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run(), name="minuet-owner"),
            loop.create_task(self._watch(), name="minuet-owner-watch"),
        ]

    async def close(self) -> None:
        """Give everything back, so that nobody waits until it runs out."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        held = [*self.held, *self._to_return]
        self._held.clear()
        self._wake()
        if held:
            with suppress(StoreError):
                await self._store.give_back(self.owner, held)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep_ms(min(LOOK_EVERY_MS, self.lease_ms // 6))
            try:
                if self._clock.monotonic_ms() >= self._renew_at_ms:
                    await self._renew()
                await self._return()
                await self.ask_the_time()
                await self._share_out()
            except StoreError as e:
                log.debug("leases could not be seen to: %s", e)
            except Exception:  # a mistake of ours about one lease must not cost all others
                log.exception("leases could not be seen to")

    async def _watch(self) -> None:
        """Give up what was not renewed in time, also while the store does not answer."""
        while True:
            now = self._give_up_what_is_over()
            next_ms = min((held.until_ms for held in self._held.values()), default=now + self.lease_ms // 3)
            await self._clock.sleep_ms(min(next_ms - now, self.lease_ms // 3))

    def _give_up_what_is_over(self) -> int:
        now = self._clock.monotonic_ms()
        if over := [held.lease for held in self._held.values() if held.until_ms <= now]:
            self._to_return += over
            self._give_up(over, "they could not be renewed in time")
        return now

    async def ask_the_time(self) -> None:
        """Learn what the store's clock says. Raises StoreError."""
        self.on_time(await self._store.time_ms())

    async def stands(self, lease: Lease) -> bool:
        """Ask the store whether a lease is still held, and so renew it. Raises StoreError."""
        return lease in await self._store.renew(self.owner, [lease], self.lease_ms)

    async def _renew(self) -> None:
        asked, sent_ms = self.held, self._clock.monotonic_ms()
        if asked:
            kept = set(await self._store.renew(self.owner, asked, self.lease_ms))
            for lease in kept:
                if self._held_as(lease):  # else it was given up while the answer was on its way
                    self._held[lease.shard].until_ms = self._until(sent_ms)
            lost = [lease for lease in asked if lease not in kept and self._held_as(lease)]
            if lost:
                self._give_up(lost, "somebody else has taken over")
        self._renew_at_ms = sent_ms + self.lease_ms // 3

    def _until(self, sent_ms: int) -> int:
        return sent_ms + 2 * self.lease_ms // 3

    def _held_as(self, lease: Lease) -> bool:
        held = self._held.get(lease.shard)
        return held is not None and held.lease == lease

    async def _return(self) -> None:
        """Tell the store of what we have given up by ourselves: others, and we, may have it under a new epoch."""
        if returned := list(self._to_return):
            await self._store.give_back(self.owner, returned)
            self._to_return = [lease for lease in self._to_return if lease not in returned]

    async def _share_out(self) -> None:
        """Take what is free up to a fair share, and let others have what is beyond it."""
        owners = await self._store.owners()
        now = self._clock.monotonic_ms()
        self._wanting = {o: until for o, until in self._wanting.items() if until > now and o not in owners}
        live = {self.owner, *owners, *self._wanting}
        fair = -(-self.shards // len(live))
        if self._wanting:
            fair = max(1, self.shards // len(live))  # as long as somebody has nothing, nobody rounds up
        if len(self._held) < fair:
            await self._claim(fair - len(self._held))
            if not self._held and self.ask is not None:
                await self.ask()
        elif len(self._held) > fair:
            busy = self.busy()
            idlest = sorted(self.held, key=lambda lease: (busy.get(lease.shard, 0), lease.shard))
            beyond = idlest[: len(self._held) - fair]
            self._to_return += beyond
            self._give_up(beyond, "")
            await self._return()

    async def _claim(self, wanted: int) -> None:
        sent_ms = self._clock.monotonic_ms()
        claimed = await self._store.claim(self.owner, wanted, self.lease_ms)
        if not claimed:
            return
        try:
            for newest in await self._store.list_runs(RunFilter(limit=1)):
                self._ids.follow(newest.run)  # whoever owned the shard before has made ids in it
        except StoreError:
            self._to_return += claimed
            raise
        for lease in claimed:
            self._held[lease.shard] = _Held(lease, self._until(sent_ms))
        self.taken += len(claimed)
        log.debug("%s owns %s of %s shards", self.owner, len(self._held), self.shards)
        self.on_gained(claimed)
        self._wake()

    def _give_up(self, leases: Iterable[Lease], why: str) -> None:
        """Own these no more, from this moment on; `why`: empty where it is our own wish."""
        gone = [self._held.pop(lease.shard).lease for lease in leases if self._held_as(lease)]
        if why and gone:
            self.lost += len(gone)
            shards = ", ".join(str(lease.shard) for lease in gone)
            log.warning("%s of this process's shards are lost (%s): %s", len(gone), shards, why)
        if gone:
            self.on_lost(gone)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for some in waiting:
            if not some.done():
                some.set_result(None)
