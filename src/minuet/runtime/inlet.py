"""Brings published events to the reactions of this program: one subscriber for each, over one store.

Whoever records an event wakes the subscribers of its type once it is durable; they read it from the outbox, as they
would after a restart. Nothing depends on being woken: everything is looked for each second as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minuet.contracts.action import ReactionSpec, RetryPolicy
from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.engine.inbox import Policy
from minuet.engine.row import Decision, EventRow, SubscriptionRow
from minuet.errors import NotFound
from minuet.runtime.handler import Handler, reaction_handler
from minuet.runtime.participant import Participant
from minuet.runtime.subscriber import Subscriber

LOOK_EVERY_MS = 1_000
WATCH_EVERY_MS = 250


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
    ) -> None:
        self._participant = participant
        self._retry = retry
        self._slots = slots
        self._reactions: dict[str, tuple[ReactionSpec, Handler]] = {}
        for service in services:
            for spec in service_spec(type(service)).reactions.values():
                handler = reaction_handler(service, spec, provided)
                self._reactions[handler.name] = spec, handler
        self._by_event: dict[str, list[Subscriber]] = {}
        self.subscribers: dict[str, Subscriber] = {}

    async def open(self) -> None:
        """Take up what was going on, and begin with what is new."""
        store = self._participant.store
        known = {row.name: row for row in await store.subscriptions()}
        last = await store.last_entry()
        rows = await self._rows(known, last)
        changed = [row for row in rows.values() if known.get(row.name) != row]
        changed += [row._replace(active=0) for row in known.values() if row.name not in rows and row.active]
        if changed:
            decision = Decision()
            decision.ensure_messages().subscriptions = changed
            await self._participant.record(decision)
        for name, row in rows.items():
            spec, handler = self._reactions[name]
            subscriber = Subscriber(
                self._participant,
                handler,
                policy_of(row, spec, self._retry),
                row,
                limit=spec.limit or self._slots,
                wake_all=self.wake,
            )
            self.subscribers[name] = subscriber
            self._by_event.setdefault(row.event, []).append(subscriber)
        for subscriber in self.subscribers.values():
            subscriber.open(last)
        if self.subscribers:
            self._participant.spawn(self._look())
            self._participant.spawn(self._watch())

    async def _rows(self, known: Mapping[str, SubscriptionRow], last: int) -> dict[str, SubscriptionRow]:
        """Give the row of each reaction: as it is, or where a new one begins."""
        now = self._participant.clock.now_ms()
        number = max((row.subscription for row in known.values()), default=0)
        rows = {}
        for name, (spec, _) in self._reactions.items():
            event = _event(spec)
            row = known.get(name)
            if row is None:
                number += 1
                rows[name] = SubscriptionRow(number, name, event, await self._beginning(spec, last), 1, now)
            elif row.event != event:  # another event under the name of a reaction that was there: it begins anew
                rows[name] = row._replace(event=event, position=await self._beginning(spec, last), active=1)
            else:
                rows[name] = row._replace(active=1)
        return rows

    async def _beginning(self, spec: ReactionSpec, last: int) -> int:
        if spec.start == "now":
            return last
        if spec.start == "beginning":
            return 0
        assert isinstance(spec.start, int)
        return await self._participant.store.entry_before(spec.start)

    def hears(self, event: str) -> bool:
        """Say whether some reaction here hears events of this type."""
        return event in self._by_event

    def wake(self, published: Iterable[EventRow]) -> None:
        """Look for events of these types: they are durable."""
        for event in {row.event for row in published}:
            for subscriber in self._by_event.get(event, ()):
                subscriber.wake()

    def find(self, name: str) -> Subscriber:
        """Give the subscriber of a reaction. Raises NotFound."""
        if (found := self.subscribers.get(name)) is None:
            known = ", ".join(sorted(self.subscribers)) or "none"
            raise NotFound(f"there is no subscription {name!r}", remedy=f"Known here: {known}", subscription=name)
        return found

    def note_progress(self) -> Decision | None:
        """Give the rows that move all positions on; None if none has moved."""
        decision = Decision()
        for subscriber in self.subscribers.values():
            if (moved := subscriber.progress()) is not None:
                messages = decision.ensure_messages()
                messages.subscriptions = [*messages.subscriptions, *moved.subscriptions]
                messages.applied_until = [*messages.applied_until, *moved.applied_until]
        return decision if decision.messages is not None else None

    async def _look(self) -> None:
        while True:
            await self._participant.clock.sleep_ms(LOOK_EVERY_MS)
            if (progress := self.note_progress()) is not None:
                self._participant.store.submit(progress)
            for subscriber in self.subscribers.values():
                subscriber.wake_due()

    async def _watch(self) -> None:
        while True:
            await self._participant.clock.sleep_ms(WATCH_EVERY_MS)
            for subscriber in self.subscribers.values():
                subscriber.watch()

    async def stop(self, grace_ms: int) -> None:
        """Begin nothing more, and let what is under way come to its end, at most this long altogether."""
        clock = self._participant.clock
        until = clock.monotonic_ms() + grace_ms
        for subscriber in self.subscribers.values():
            await subscriber.stop(max(0, until - clock.monotonic_ms()))
        if (progress := self.note_progress()) is not None:
            self._participant.store.submit(progress)


def policy_of(row: SubscriptionRow, spec: ReactionSpec, retry: RetryPolicy) -> Policy:
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
    )


def reactions_of(services: Sequence[Service]) -> list[ReactionSpec]:
    """Give the reactions of services."""
    return [spec for s in services for spec in service_spec(type(s)).reactions.values()]


def _event(spec: ReactionSpec) -> str:
    event = event_spec(spec.event)
    assert event is not None, "a reaction is subscribed to an event"
    return event.name
