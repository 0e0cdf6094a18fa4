"""Brings published events to the reactions of this program: one subscriber for each, over one store.

Whoever records an event wakes the subscribers of its type once it is durable; they read it from the outbox, as they
would after a restart. Nothing depends on being woken: everything is looked for each second as well.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from minuet.contracts.action import ReactionSpec, RetryPolicy
from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.engine.inbox import Policy
from minuet.engine.order import GapPolicy
from minuet.engine.row import Decision, EventRow, SubscriptionRow
from minuet.engine.taken_back import taken_back_type
from minuet.errors import NotFound
from minuet.runtime.acting import Acting
from minuet.runtime.handler import Handler, reaction_handler
from minuet.runtime.participant import Participant
from minuet.runtime.slots import watch
from minuet.runtime.subscriber import Subscriber

LOOK_EVERY_MS = 1_000


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
            spec, handler, undo = self._reactions[name]
            subscriber = Subscriber(
                self._participant,
                handler,
                policy_of(row, spec, self._retry),
                row,
                limit=spec.limit or self._slots,
                wake_all=self.wake,
                acting=None if self._acting is None else self._acting.of(name, handler),
                undo=undo,
            )
            self.subscribers[name] = subscriber
            for event in (row.event, row.also):
                if event is not None:
                    self._by_event.setdefault(event, []).append(subscriber)
        for subscriber in self.subscribers.values():
            subscriber.open(last)
        if self.subscribers:
            self._participant.spawn(self._look())
            pools = [subscriber.slots for subscriber in self.subscribers.values()]
            self._participant.spawn(watch(pools, self._participant.clock))

    async def _rows(self, known: Mapping[str, SubscriptionRow], last: int) -> dict[str, SubscriptionRow]:
        """Give the row of each reaction: as it is, or where a new one begins."""
        now = self._participant.clock.now_ms()
        number = max((row.subscription for row in known.values()), default=0)
        rows = {}
        for name, (spec, _, undo) in self._reactions.items():
            event = _event(spec)
            also = taken_back_type(event) if undo is not None else None
            row = known.get(name)
            if row is None:
                number += 1
                row = SubscriptionRow(number, name, event, -1, 1, now)
            # It begins anew under the name of a reaction that heard another event, and wherever each process is told.
            if row.position < 0 or row.event != event or spec.cardinality == "all":
                began = await self._beginning(spec, last)
                row = row._replace(event=event, position=began, began=began)
            rows[name] = row._replace(active=1, also=also)
        return rows

    async def _beginning(self, spec: ReactionSpec, last: int) -> int:
        if spec.start == "now":
            return last
        if spec.start == "beginning":
            return 0
        assert isinstance(spec.start, int)
        return await self._participant.store.entry_before(spec.start)

    @property
    def events(self) -> Collection[str]:
        """The types of events that reactions here hear."""
        return self._by_event.keys()

    def since_ms(self, event: str) -> int:
        """Give when the first reaction here began to hear events of this type; 0 where none does."""
        return min((subscriber.since_ms for subscriber in self._by_event.get(event, ())), default=0)

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
        gaps=GapPolicy(
            buffer_messages=spec.buffer_messages,
            buffer_age_ms=spec.buffer_age_ms,
            on_gap=spec.on_gap,
            on_late=spec.on_late,
        ),
        also=row.also,
        began=row.began,
        instance=_instance() if spec.cardinality == "all" else "",
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
