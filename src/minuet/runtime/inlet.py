"""Brings published events to the reactions of this program: one subscriber for each, over one store.

Whoever records an event wakes the subscribers of its type once it is durable; they read it from the outbox, as they
would after a restart. Nothing depends on being woken: everything is looked for each second as well.

Where several participants share the store, each subscription is performed by whoever owns the shard of its name; the
owner of one shard enters them all. A reaction that each process has is performed by each, under a name of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

from minuet.contracts.action import ReactionSpec, RetryPolicy
from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.order import GapPolicy
from minuet.engine.row import Decision, EventRow, Lease, SubscriptionRow
from minuet.engine.taken_back import taken_back_type
from minuet.errors import NotFound, StoreError
from minuet.runtime.acting import Acting
from minuet.runtime.handler import Handler, reaction_handler
from minuet.runtime.ownership import Ownership
from minuet.runtime.participant import Participant
from minuet.runtime.slots import Slots, watch
from minuet.runtime.subscriber import Subscriber

LOOK_EVERY_MS = 1_000
ENTERED_LOOKS = 20  # each a tenth of that
REGISTER = "subscriptions"  # whoever owns the shard of this name enters what is new
INSTANCE = "@"  # between a reaction's name and that of the process whose own it is; in no name of ours
OWN_NUMBERS = 1 << 32  # from here on: the numbers of subscriptions that one process has for itself


class Inlet:
    """All subscriptions of an open program."""

    def __init__(
        self,
        participant: Participant,
        services: Iterable[Service],
        provided: Mapping[Any, Any],
        *,
        retry: RetryPolicy,
        slots: int,
        acting: Acting | None = None,
    ) -> None:
        self._participant = participant
        self._retry = retry
        self._slots = slots
        self._acting = acting
        self._reactions: dict[str, tuple[ReactionSpec, Handler, Handler | None]] = {}
        for service in services:
            declared = service_spec(type(service))
            for spec in declared.reactions.values():
                handler = reaction_handler(service, spec, provided)
                undo = declared.actions[spec.on_compensated] if spec.on_compensated is not None else None
                self._reactions[handler.name] = (
                    spec,
                    handler,
                    Handler(service, undo, provided) if undo is not None else None,
                )
        self._by_event: dict[str, list[Subscriber]] = {}
        self._events: dict[str, list[str]] = {}  # all that is heard, with the names of those who do
        for name, (spec, _, takes_back) in self._reactions.items():
            event = _event(spec)
            for heard in (event, taken_back_type(event)) if takes_back is not None else (event,):
                self._events.setdefault(heard, []).append(name)
        self._pools: list[Slots[Delivery]] = []
        self._entered: Lease | None = None  # under which everything was entered
        self._is_beginning = False
        self._since_ms: dict[str, int] = {}  # by event, where somebody else may perform what hears it
        self.subscribers: dict[str, Subscriber] = {}

    async def open(self) -> None:
        """Take up what was going on, and begin with what is new."""
        ownership = self._participant.ownership
        if ownership is None:
            last, rows = await self._enter(self._reactions, None)
            self._begin(rows, last)
        else:
            await self._begin_own(ownership)
            await self._begin_owned(ownership)
        if self._reactions:
            self._participant.spawn(self._look())
            self._participant.spawn(watch(self._pools, self._participant.clock))

    async def _enter(self, names: Iterable[str], fence: Lease | None) -> tuple[int, dict[str, SubscriptionRow]]:
        """Enter what is new into the store; gives the last entry, and all rows of these reactions."""
        store = self._participant.store
        known = {row.name: row for row in await store.subscriptions()}
        last = await store.last_entry()
        rows = await self._rows(names, known, last)
        changed = [row for row in rows.values() if known.get(row.name) != row]
        changed += [
            row._replace(active=0)
            for row in known.values()
            if row.name not in rows and row.active and INSTANCE not in row.name
        ]
        if changed:
            decision = Decision()
            decision.fence = fence
            decision.ensure_messages().subscriptions = changed
            await self._participant.record(decision)
        return last, rows

    def _begin(self, rows: Mapping[str, SubscriptionRow], last: int, fence: Lease | None = None) -> None:
        begun = []
        for name, row in rows.items():
            spec, handler, undo = self._reactions[name.partition(INSTANCE)[0]]
            subscriber = Subscriber(
                self._participant,
                handler,
                policy_of(row, spec, self._retry, fence),
                row,
                limit=spec.limit or self._slots,
                wake_all=self.wake,
                acting=None if self._acting is None else self._acting.of(name, handler),
                undo=undo,
            )
            begun.append(subscriber)
            self.subscribers[name] = subscriber
            self._pools.append(subscriber.slots)
            for event in (row.event, row.also):
                if event is not None:
                    self._by_event.setdefault(event, []).append(subscriber)
        for subscriber in begun:
            subscriber.open(last)

    # Where several participants share the store

    async def _begin_own(self, ownership: Ownership) -> None:
        """Begin what each process has for itself."""
        store = self._participant.store
        names = [name for name, (spec, _, _) in self._reactions.items() if spec.cardinality == "all"]
        last, now = await store.last_entry(), self._participant.clock.now_ms()
        rows = {}
        for name in names:
            own = f"{name}{INSTANCE}{ownership.owner}"
            number = OWN_NUMBERS + crc32(own.encode())  # nobody is asked, and nobody else has it
            row = SubscriptionRow(number, own, _event(self._reactions[name][0]), -1, 1, now)
            rows[own] = await self._row(name, row, last)
        if rows:
            decision = Decision()
            decision.ensure_messages().subscriptions = list(rows.values())
            await self._participant.record(decision)
            self._begin(rows, last)

    async def _begin_owned(self, ownership: Ownership) -> None:
        """Begin what belongs to our shards and is not performed yet, as far as it has been entered."""
        shared = [name for name, (spec, _, _) in self._reactions.items() if spec.cardinality != "all"]
        if not shared:
            return
        store = self._participant.store
        if (fence := ownership.lease_of_name(REGISTER)) is not None and fence != self._entered:
            await self._enter(shared, fence)
            self._entered = fence
        leases = {name: lease for name in shared if (lease := ownership.lease_of_name(name)) is not None}
        if leases.keys() <= self.subscribers.keys() and len(self._since_ms) == len(shared):
            return
        known = {row.name: row for row in await store.subscriptions()}
        for name in shared:
            if name in known and name not in self._since_ms:
                self._since_ms[name] = known[name].since_ms
        last = await store.last_entry()
        for name, lease in leases.items():
            if name in known and name not in self.subscribers and ownership.lease_of_name(name) == lease:
                self._begin({name: known[name]}, last, lease)

    async def entered(self) -> None:
        """Wait until everything is entered, so that nothing is missed of what is published from now on.

        Not for long: whoever is to enter it may be of a release that does not know it.
        """
        ownership = self._participant.ownership
        if ownership is None:
            return
        shared = {name for name, (spec, _, _) in self._reactions.items() if spec.cardinality != "all"}
        for _ in range(ENTERED_LOOKS):
            await self._look_at_owned()
            if shared <= self._since_ms.keys():
                return
            await self._participant.clock.sleep_ms(LOOK_EVERY_MS // 10)

    def gained(self) -> None:
        """Begin what belongs to shards that have come."""
        self._participant.spawn(self._look_at_owned())

    def lost(self, leases: Iterable[Lease]) -> None:
        """End at once what belongs to shards that are gone."""
        gone = frozenset(leases)
        for name, subscriber in list(self.subscribers.items()):
            if subscriber.policy.fence in gone:
                subscriber.abandon()
                del self.subscribers[name]
                self._pools.remove(subscriber.slots)
                for listening in self._by_event.values():
                    if subscriber in listening:
                        listening.remove(subscriber)

    async def _look_at_owned(self) -> None:
        ownership = self._participant.ownership
        if ownership is not None and ownership.owns_some and not self._is_beginning:
            self._is_beginning = True
            try:
                with suppress(StoreError):  # it is looked at again
                    await self._begin_owned(ownership)
            finally:
                self._is_beginning = False

    async def _rows(
        self, names: Iterable[str], known: Mapping[str, SubscriptionRow], last: int
    ) -> dict[str, SubscriptionRow]:
        """Give the row of each reaction: as it is, or where a new one begins."""
        now = self._participant.clock.now_ms()
        number = max((row.subscription for row in known.values() if row.subscription < OWN_NUMBERS), default=0)
        rows = {}
        for name in names:
            row = known.get(name)
            if row is None:
                number += 1
                row = SubscriptionRow(number, name, _event(self._reactions[name][0]), -1, 1, now)
            rows[name] = await self._row(name, row, last)
        return rows

    async def _row(self, name: str, row: SubscriptionRow, last: int) -> SubscriptionRow:
        spec, _, undo = self._reactions[name]
        event = _event(spec)
        # It begins anew under the name of a reaction that heard another event, and wherever each process is told.
        if row.position < 0 or row.event != event or spec.cardinality == "all":
            began = await self._beginning(spec, last)
            row = row._replace(event=event, position=began, began=began)
        return row._replace(active=1, also=taken_back_type(event) if undo is not None else None)

    async def _beginning(self, spec: ReactionSpec, last: int) -> int:
        if spec.start == "now":
            return last
        if spec.start == "beginning":
            return 0
        assert isinstance(spec.start, int)
        return await self._participant.store.entry_before(spec.start)

    @property
    def events(self) -> Collection[str]:
        """The types of events that reactions hear, here or at those who share the store."""
        return self._events.keys()

    def since_ms(self, event: str) -> int:
        """Give when the first reaction began to hear events of this type; 0 where none does."""
        here = [subscriber.since_ms for subscriber in self._by_event.get(event, ())]
        return min([*here, *(self._since_ms[n] for n in self._events.get(event, ()) if n in self._since_ms)], default=0)

    def wake(self, published: Iterable[EventRow]) -> None:
        """Look for events of these types: they are durable."""
        for event in {row.event for row in published}:
            for subscriber in self._by_event.get(event, ()):
                subscriber.wake()

    def policy(self, name: str, subscription: int) -> Policy | None:
        """Give the policy of a subscription, whoever performs it; None if no reaction of these services is named so."""
        if (subscriber := self.subscribers.get(name)) is not None:
            return subscriber.policy
        if (found := self._reactions.get(name.partition(INSTANCE)[0])) is None:
            return None
        spec, _, undo = found
        event = _event(spec)
        also = taken_back_type(event) if undo is not None else None
        return policy_of(SubscriptionRow(subscription, name, event, 0, 1, 0, also=also), spec, self._retry, None)

    def find(self, name: str) -> Subscriber:
        """Give the subscriber of a reaction. Raises NotFound."""
        if (found := self.subscribers.get(name)) is None:
            known = ", ".join(sorted(self.subscribers)) or "none"
            raise NotFound(f"there is no subscription {name!r}", remedy=f"Known here: {known}", subscription=name)
        return found

    def note_progress(self) -> list[Decision]:
        """Give the rows that move all positions on, in a decision for each lease under which they are moved."""
        decisions: dict[Lease | None, Decision] = {}
        for subscriber in self.subscribers.values():
            if (moved := subscriber.progress()) is not None:
                fence = subscriber.policy.fence
                messages = decisions.setdefault(fence, subscriber.policy.decision()).ensure_messages()
                messages.subscriptions = [*messages.subscriptions, *moved.subscriptions]
                messages.applied_until = [*messages.applied_until, *moved.applied_until]
        return list(decisions.values())

    async def _look(self) -> None:
        while True:
            await self._participant.clock.sleep_ms(LOOK_EVERY_MS)
            for progress in self.note_progress():
                self._participant.store.submit(progress)
            for subscriber in self.subscribers.values():
                subscriber.wake_due()
            await self._look_at_owned()

    def look(self) -> None:
        """Look for what others have recorded."""
        for subscriber in self.subscribers.values():
            subscriber.wake_due()

    async def stop(self, grace_ms: int) -> None:
        """Begin nothing more, and let what is under way come to its end, at most this long altogether."""
        clock = self._participant.clock
        until = clock.monotonic_ms() + grace_ms
        for subscriber in self.subscribers.values():
            await subscriber.stop(max(0, until - clock.monotonic_ms()))
        for progress in self.note_progress():
            self._participant.store.submit(progress)
        own = [s.row._replace(active=0) for name, s in self.subscribers.items() if INSTANCE in name]
        if own:  # nobody has these names any more
            decision = Decision()
            decision.ensure_messages().subscriptions = own
            self._participant.store.submit(decision)


def policy_of(row: SubscriptionRow, spec: ReactionSpec, retry: RetryPolicy, fence: Lease | None) -> Policy:
    """Give what a reaction declares, as far as it decides what follows."""
    event = event_spec(spec.event)
    assert event is not None
    return Policy(
        subscription=row.subscription,
        name=row.name,
        event=event.name,
        version=event.version,
        retry=spec.retry or retry,
        order_key=spec.order_key,
        blocks=spec.order_key is not None and spec.poison == "block",
        accepts_newer=spec.newer == "accept",
        dedup_window_ms=spec.dedup_window_ms,
        gaps=GapPolicy(
            buffer_messages=spec.buffer_messages,
            buffer_age_ms=spec.buffer_age_ms,
            on_gap=spec.on_gap,
            on_late=spec.on_late,
        ),
        also=row.also,
        began=row.began,
        instance=_instance() if spec.cardinality == "all" else "",
        fence=fence,
    )


def _instance() -> str:
    """Name this process, for the dead letters of reactions that each process has."""
    return f"{socket.gethostname()}, process {os.getpid()}"


def reactions_of(services: Sequence[Service]) -> list[ReactionSpec]:
    """Give the reactions of services."""
    return [spec for s in services for spec in service_spec(type(s)).reactions.values()]


def _event(spec: ReactionSpec) -> str:
    event = event_spec(spec.event)
    assert event is not None, "a reaction is subscribed to an event"
    return event.name
