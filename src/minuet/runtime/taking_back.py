"""What a subscription does with the notice that an event is taken back, when its turn has come.

If the event was applied, the action is called that `on_compensated` names. If it was not (it waits for another
attempt, is a dead letter, was discarded, or was never heard here), nothing is to be undone; and it is not applied any
more. While it is being applied, the notice waits for that. So an event is undone once if it was applied once, and
never otherwise.

Events from elsewhere may come after the notice about them; then they are looked at as well.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from minuet.engine import inbox
from minuet.engine.dead_letter import Reason
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.port import StoredDelivery, StoreReads
from minuet.engine.row import EventRow
from minuet.engine.taken_back import notice_of, original_of


class Place(Protocol):
    """Where the events of the subscription are."""

    @property
    def taken(self) -> int:
        """Give up to which entry events were read."""
        ...

    def is_in_flight(self, entry: int) -> bool:
        """Say whether an event is being applied, or queues for it."""
        ...

    def start(self, delivery: Delivery) -> None:
        """Have the turn of an event come again."""
        ...


class Leave(NamedTuple):
    """That an event is not to be applied; nor is its `original`, which is there and has not been applied."""

    original: Delivery | None = None


class Later(Exception):
    """The turn of a notice has come too early; it comes again."""


class TakingBack:
    """One for each subscription that says `on_compensated`."""

    def __init__(self, store: StoreReads, policy: Policy, place: Place) -> None:
        self._store = store
        self._policy = policy
        self._place = place
        self._after: dict[int, list[Delivery]] = {}  # notices that wait until this entry has been applied, or failed
        self._read_about: set[int] = set()  # entries of which nothing has become since it was asked how they are
        self._gone: set[tuple[str, str]] = set()  # events that keep their place in their stream, and are left in turn

    def is_concerned(self, event: EventRow) -> bool:
        """Say whether one must look before an event is applied: it is a notice, or one may have come before it."""
        return event.event == self._policy.also or event.sequence is not None

    def forgotten(self, entry: int) -> None:
        """Take that an event has left memory, applied or not."""
        self._read_about.discard(entry)
        for notice in self._after.pop(entry, ()):
            self._place.start(notice)

    async def look(self, delivery: Delivery) -> Leave | None:
        """Say whether to leave an event; None: it is to be applied.

        Raises:
            Later: what it takes back is being applied right now; its turn comes again by itself.
        """
        is_notice = delivery.event.event == self._policy.also
        return await (self._look_at_notice(delivery) if is_notice else self._look_at_original(delivery))

    async def _look_at_notice(self, notice: Delivery) -> Leave | None:
        event, policy = notice.event, self._policy
        original = await self._store.find_published(event.source, original_of(event.message))
        if original is None or original.entry is None or not policy.began < original.entry < notice.entry:
            return Leave()  # never heard here, or not yet: when it comes it is left
        entry = original.entry
        stored = await self._row_of(entry)
        if self._place.is_in_flight(entry):
            # In its own lane nothing else is being applied right now: the event queues behind its notice.
            if policy.order_key is None or inbox.order_key_of(policy, original) != notice.key:
                self._after.setdefault(entry, []).append(notice)
                raise Later
            self._gone.add((event.source, original.message))
            return Leave()
        if not stored:
            return None
        row, found, _ = stored[0]
        if row.state == "discarded":
            return Leave()
        if row.state == "early" or row.reason == Reason.GAP:
            self._gone.add((event.source, original.message))
            return Leave()
        return Leave(Delivery(found, entry, row.key, row))

    async def _row_of(self, entry: int) -> list[StoredDelivery]:
        """Give what is recorded of an event, as it still is when the answer is there, unless that is in flight."""
        while not self._place.is_in_flight(entry):
            self._read_about.add(entry)
            stored = await self._store.deliveries_of(self._policy.subscription, [entry])
            if entry in self._read_about:
                self._read_about.discard(entry)
                return stored
        return []

    async def _look_at_original(self, delivery: Delivery) -> Leave | None:
        event, policy = delivery.event, self._policy
        identity = event.source, event.message
        if identity not in self._gone:
            notice = await self._store.find_published(event.source, notice_of(event.message))
            if notice is None or notice.entry is None:
                return None
            if notice.entry > delivery.entry:
                if notice.entry > self._place.taken or self._place.is_in_flight(notice.entry):
                    return None  # its turn is still to come
                if await self._store.deliveries_of(policy.subscription, [notice.entry]):
                    return None
        self._gone.discard(identity)
        return Leave()
