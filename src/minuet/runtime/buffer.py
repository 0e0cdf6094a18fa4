"""The buffer of an ordered subscription: events from elsewhere that came too early wait in it, or too late, are left.

Where a stream is, and what is a gap, is said by `engine/order.py`; here its verdicts are carried out. All that waits is
a row in the store; memory holds its numbers only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from minuet.engine import bound, inbox
from minuet.engine.dead_letter import Reason
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.lane import Lanes
from minuet.engine.order import Early, Gap, Order, StreamName, Verdict, early_of, stream_named, stream_of
from minuet.engine.port import Store, StoredDelivery
from minuet.engine.row import Decision, EventRow
from minuet.errors import StoreError
from minuet.runtime.participant import Participant

log = logging.getLogger("minuet")

BATCH = 256


class Giver(Protocol):
    """Who reads the events of the subscription."""

    def take_back(self, stored: StoredDelivery, *, is_streamed: bool = False) -> None:
        """Take an event into memory that waits in the store, to be applied."""
        ...

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Have it recorded that these are early, and then say so: `recorded`."""
        ...


class Buffer:
    """One for each ordered subscription."""

    def __init__(self, participant: Participant, policy: Policy, lanes: Lanes, giver: Giver, room: Callable[[], int]):
        self._participant = participant
        self._store: Store = participant.store
        self._policy = policy
        self._lanes = lanes
        self._giver = giver
        self._room = room
        self._order = Order(policy.gaps)
        self._to_release: dict[StreamName, None] = {}
        self._behind: dict[str, dict[StreamName, None]] = {}  # streams that wait for a key to go on
        self._unrecorded: set[int] = set()  # early ones whose rows are not known to be durable
        self._needless: dict[StreamName, list[Early]] = {}  # to be recorded as left, since something newer is there
        self.left = 0
        self.dead = 0

    @property
    def early(self) -> int:
        """Give how many events wait for one that was before them."""
        return self._order.early

    @property
    def gaps(self) -> int:
        """Give how many gaps there are that somebody was told of."""
        return self._order.gaps_open

    @property
    def parked(self) -> set[int]:
        """Give the entries before which a gap is that somebody was told of."""
        return self._order.parked

    @property
    def stalled(self) -> int:
        """Give how many streams do not go on by themselves."""
        return self._order.stalled

    @property
    def has_work(self) -> bool:
        """Say whether something may have become next."""
        return bool(self._to_release)

    async def recover(self) -> set[int]:
        """Learn what the last process left; gives the entries that wait here, and hold up nobody else."""
        early, names = set[int](), dict[StreamName, None]()
        for d in await self._store.deliveries_streamed(self._policy.subscription):
            name = stream_named(d.source, d.event, d.event_key)
            if d.state == "early" or (d.state == "dead" and d.reason == Reason.GAP):
                early.add(d.entry)
                self._order.recall(name, Early(d.sequence, d.previous or 0, d.entry, d.first_at_ms))
                names[name] = None
            elif d.state in ("waiting", "running", "dead"):
                self._order.pending(name, d.sequence)
                names[name] = None
        await self._learn(names)
        self._to_release.update(names)
        return early

    async def learn(self, events: Iterable[EventRow]) -> None:
        """Learn how far the streams of these events are."""
        names = dict.fromkeys(stream_of(e) for e in events if e.sequence is not None)
        unknown = [name for name in names if not self._order.knows(name)]
        if unknown:
            if len(self._order) > bound.KEYS_STALLED:
                self._order.forget_idle()
                unknown = [name for name in names if not self._order.knows(name)]
            await self._learn(unknown)

    async def _learn(self, names: Iterable[StreamName]) -> None:
        listed = list(names)
        found = {(s, k): n for s, k, n in await self._store.seen(self._policy.subscription, listed)} if listed else {}
        for name in listed:
            self._order.learn(name, found.get(name, 0))

    def take(self, delivery: Delivery, now_ms: int) -> Delivery | Decision | None:
        """Take a new event from elsewhere. Gives it, if it is to be applied; what to record if not; or None: it waits.

        Its stream is known: `learn`.
        """
        event, policy = delivery.event, self._policy
        name = stream_of(event)
        is_free = not self._lanes.is_blocked(delivery.key)
        verdict = self._order.take(name, early_of(event, delivery.entry, now_ms), is_free=is_free)
        if verdict == Verdict.NEXT:
            return replace(delivery, is_streamed=True)
        if verdict == Verdict.EARLY:
            if not is_free:
                self._behind.setdefault(delivery.key, {})[name] = None
            self._unrecorded.add(delivery.entry)
            self._giver.keep([delivery])
            return None
        if policy.gaps.on_late == "apply":
            return delivery
        if policy.gaps.on_late == "park":
            why = f"number {event.sequence} came after a newer one of its key had been applied"
            return inbox.dead(policy, delivery, Reason.LATE, why, now_ms)
        self.left += 1
        return inbox.left_out(policy, [delivery], now_ms)

    def put_back(self, deliveries: Iterable[Delivery], now_ms: int) -> None:
        """Take that these are not to be applied yet: one before them has failed."""
        fresh = list[Delivery]()
        for d in deliveries:
            name = stream_of(d.event)
            self._order.put_back(name, [early_of(d.event, d.entry, now_ms)])
            self._behind.setdefault(d.key, {})[name] = None
            if d.row is None:
                fresh.append(replace(d, is_streamed=False))
        if fresh:
            self._unrecorded.update(d.entry for d in fresh)
            self._giver.keep(fresh)

    def recorded(self, deliveries: Iterable[Delivery]) -> bool:
        """Take that early events have their rows by now; True if so many wait that one should `look`."""
        recorded = list(deliveries)
        self._unrecorded.difference_update(d.entry for d in recorded)
        names = dict.fromkeys(stream_of(d.event) for d in recorded)
        self._to_release.update(names)
        return any(self._order.is_full(name) for name in names)

    def settled(self, event: EventRow) -> None:
        """Take that an event is applied, or that its key goes on without it."""
        if event.sequence is not None and self._order.settled(stream_of(event), event.sequence):
            self._to_release[stream_of(event)] = None

    def forced(self, event: EventRow) -> None:
        """Take that a person has an event applied, whatever came before it."""
        if event.sequence is not None:
            self._order.forced(stream_of(event), event.sequence)

    def freed(self, key: str) -> None:
        """Take that a key may go on."""
        if key in self._behind and not self._lanes.is_blocked(key):
            self._to_release.update(self._behind.pop(key))

    # To be called by the task that reads, and by no other

    async def release(self) -> None:
        """Have those applied that are next by now."""
        for name in list(self._to_release):
            if self._room() <= 0:
                return
            del self._to_release[name]
            try:
                if self._order.knows(name):
                    await self._release(name)
            except StoreError:
                self._to_release[name] = None
                raise

    async def _release(self, name: StreamName) -> None:
        limit = min(BATCH, self._room())
        asked = [e.entry for e in self._order.peek(name, limit)]
        if not asked:
            return
        found = await self._store.deliveries_of(self._policy.subscription, asked)
        stored = {x.delivery.entry: x for x in found}
        early = self._order.release(name, limit)
        for i, one in enumerate(early):
            # A row may be there that is recorded once more, since nobody was told of it.
            row = stored.get(one.entry) if one.entry not in self._unrecorded else None
            if row is None or self._lanes.is_blocked(row.delivery.key):
                self._order.put_back(name, early[i:])
                if row is not None:
                    self._behind.setdefault(row.delivery.key, {})[name] = None
                elif one.entry not in asked:  # else its row is being recorded, and `recorded` looks again
                    self._to_release[name] = None
                return
            self._giver.take_back(row, is_streamed=True)
        if len(early) == limit:
            self._to_release[name] = None

    async def look(self, now_ms: int) -> int | None:
        """See to gaps that are old enough, or too full; gives when the next one is old enough."""
        await self._leave(now_ms)
        for gap in self._order.gaps(now_ms):
            log.warning(
                "%s lacks something of %s, key %s: after number %s, at the latest %s; %s wait behind it",
                *(self._policy.name, gap.stream.source, gap.stream.key, gap.after, gap.until, gap.waiting),
            )
            match self._policy.gaps.on_gap:
                case "park":
                    await self._park(gap, now_ms)
                case "wait":
                    self._order.told(gap)
                case "skip":
                    self._order.go_on(gap)
                    self._to_release[gap.stream] = None
                case _:
                    self._needless.setdefault(gap.stream, []).extend(self._order.keep_newest(gap))
                    await self._leave(now_ms)
        return self._order.due_ms()

    async def _park(self, gap: Gap, now_ms: int) -> None:
        """Make the first that waits a dead letter; should the gap close, it is applied all the same."""
        stored = await self._store.deliveries_of(self._policy.subscription, [gap.first.entry])
        for x in stored:  # none: its row is about to be recorded, and the next look finds it
            if x.delivery.state == "early":
                delivery = Delivery(x.event, x.delivery.entry, x.delivery.key, x.delivery)
                why = f"what came after number {gap.after}, at the latest {gap.until}, is missing before it"
                await self._participant.record(inbox.dead(self._policy, delivery, Reason.GAP, why, now_ms))
                self.dead += 1
            self._order.told(gap)

    async def _leave(self, now_ms: int) -> None:
        """Record those as done with that something newer has made needless, as soon as they have their rows."""
        for name, needless in list(self._needless.items()):
            ready = [early.entry for early in needless if early.entry not in self._unrecorded]
            stored = await self._store.deliveries_of(self._policy.subscription, ready)
            # Where one has no row, or this state, that was recorded already, and nobody was told.
            left = [
                Delivery(x.event, x.delivery.entry, x.delivery.key, x.delivery)
                for x in stored
                if x.delivery.state != "discarded"
            ]
            if left:
                await self._participant.record(inbox.left_out(self._policy, left, now_ms))
            self.left += len(ready)
            if rest := [early for early in needless if early.entry not in ready]:
                self._needless[name] = rest
            else:
                del self._needless[name]
                self._to_release[name] = None
