"""`Letters` over the subscriptions of this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from minuet.contracts.codec import Codec, codec_for
from minuet.contracts.strict_json import read_json
from minuet.engine import bound, inbox
from minuet.engine.dead_letter import letter_id
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.port import LetterFilter, StoredDelivery
from minuet.engine.row import AuditRow, Decision, DeliveryKey, EventRow, Messages
from minuet.errors import Conflict, InvalidPayload
from minuet.runtime.inlet import Inlet
from minuet.runtime.letters import ANY, PAGE, LetterChoice, LetterReading
from minuet.runtime.participant import Participant
from minuet.runtime.subscriber import Subscriber
from minuet.runtime.view import Acknowledged, SubscriptionView


class LocalLetters(LetterReading):
    """The verbs, performed here. Each leaves an audit row for each dead letter, in the same commit."""

    def __init__(self, participant: Participant, inlet: Inlet, events: Mapping[str, type]) -> None:
        super().__init__(participant.store)
        self._participant = participant
        self._inlet = inlet
        self._events = events

    async def subscriptions(self) -> list[SubscriptionView]:
        """List subscriptions, and how far each is."""
        return [self._with_numbers(view) for view in await super().subscriptions()]

    def _with_numbers(self, view: SubscriptionView) -> SubscriptionView:
        subscriber = self._inlet.subscribers.get(view.name)
        if subscriber is None or subscriber.buffer is None:
            return view
        buffer = subscriber.buffer
        return msgspec.structs.replace(view, late=subscriber.late, early=buffer.early, gaps=buffer.gaps)

    async def retry(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Take dead letters up again, now."""

        def act(messages: Messages, stored: StoredDelivery) -> None:
            messages.deliveries = [*messages.deliveries, inbox.make_due(stored.delivery, self._now())]

        return await self._each("retry", choice, who, note, act, "due now")

    async def edit(self, letter: str, data: bytes, *, who: str = "", note: str) -> Acknowledged:
        """Correct the data of one, and take it up again."""
        stored = await self._stored(letter)
        cls = self._events.get(stored.event.event)
        if cls is None:
            raise Conflict(f"the event {stored.event.event} is not known here", remedy="Run a release that knows it")
        codec: Codec[Any] = codec_for(cls)
        body = codec.encode(codec.decode(read_json(data, max_bytes=bound.INPUT_BYTES))).decode()
        if (policy := self._policy(stored)) is not None:
            new = inbox.order_key_of(policy, stored.event, body)
            if new != stored.delivery.key:
                raise InvalidPayload(
                    f"the order key is {stored.delivery.key!r}, and would become {new!r}",
                    remedy="Correct the rest; to move it to another key, discard it and send another event",
                )

        def act(messages: Messages, found: StoredDelivery) -> None:
            messages.deliveries = [inbox.make_due(found.delivery, self._now(), body=body)]

        return await self._each(
            "edit", LetterChoice(ids=(letter,)), who, _required(note), act, "corrected, and due now"
        )

    async def skip(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Let the keys go on that they hold up; they stay on the list."""

        def act(messages: Messages, stored: StoredDelivery) -> None:
            messages.deliveries = [*messages.deliveries, stored.delivery._replace(state="skipped")]
            self._pass(messages, stored)

        return await self._each("skip", choice, who, note, act, "skipped: their keys go on", lets_go=True)

    async def discard(self, choice: LetterChoice, *, who: str = "", note: str) -> Acknowledged:
        """Give them up for good; the audit keeps that, and why."""

        def act(messages: Messages, stored: StoredDelivery) -> None:
            row = stored.delivery
            key = DeliveryKey(row.subscription, row.entry)
            policy = self._policy(stored)
            if policy is not None and policy.also is not None:  # then it has to be known that it was never applied
                messages.deliveries = [*messages.deliveries, row._replace(state="discarded")]
            else:
                messages.deliveries_done = [*messages.deliveries_done, key]
            messages.applied = [*messages.applied, key]  # else it would be read anew where the position lies before it
            self._pass(messages, stored)

        return await self._each("discard", choice, who, _required(note), act, "discarded", lets_go=True)

    async def replay(
        self,
        subscription: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        """Have events of a time applied once more by one subscription.

        What it publishes while it does keeps its identity, so that others do not hear it twice.
        """
        subscriber = self._inlet.find(subscription)
        store = self._participant.store
        first = 1 + (await store.entry_before(since_ms) if since_ms is not None else 0)
        last = await store.entry_before(until_ms + 1) if until_ms is not None else await store.last_entry()
        last = min(last, subscriber.position)  # what lies beyond is on its way to be applied for the first time
        for progress in self._inlet.note_progress():
            await self._participant.record(progress)
        count = 0
        while events := await subscriber.log.between(first, last, PAGE):
            count += await self._replay_page(subscriber, events)
            first = 1 + (events[-1].entry or 0)
        audit = Decision()
        audit.audit = [AuditRow(self._now(), who, "replay", subscription, f"{count} events", note)]
        await self._participant.record(audit)
        return Acknowledged(outcome="due", message=f"{count} events are applied once more by {subscription}")

    async def _replay_page(self, subscriber: Subscriber, events: Sequence[EventRow]) -> int:
        policy, now = subscriber.policy, self._now()
        again = [e for e in events if e.entry is not None and not subscriber.is_in_flight(e.entry)]
        deliveries = [Delivery(e, e.entry or 0, inbox.order_key_of(policy, e)) for e in again]
        decision = inbox.hold(policy, deliveries, now)
        messages = decision.ensure_messages()
        if policy.order_key is None:
            messages.deliveries = [row._replace(state="waiting", next_at_ms=now) for row in messages.deliveries]
        # What it has applied is forgotten up to its position, or it would not be applied once more.
        messages.applied_until = [DeliveryKey(policy.subscription, max(e.entry or 0 for e in events))]
        await self._participant.record(decision)
        if policy.order_key is None:
            subscriber.wake_due()
        else:
            subscriber.held_back(list(dict.fromkeys(d.key for d in deliveries)))
        return len(deliveries)

    async def _each(
        self,
        verb: str,
        choice: LetterChoice,
        who: str,
        note: str | None,
        act: Callable[[Messages, StoredDelivery], None],
        said: str,
        *,
        lets_go: bool = False,
    ) -> Acknowledged:
        """Do something about each dead letter that is meant, a page at a time, each page in one commit."""
        if choice == ANY:
            raise InvalidPayload("no dead letter is named", remedy="Name some, or say that everything is meant")
        done = 0
        after: tuple[int, int, int] | None = None
        while page := await self._page(choice, after):
            last = page[-1].delivery
            after = (last.last_at_ms, last.subscription, last.entry)
            decision = Decision()
            messages = decision.ensure_messages()
            for stored in page:
                act(messages, stored)
            now = self._now()
            decision.audit = [
                AuditRow(now, who, verb, letter_id(x.name, x.delivery.entry), _outcome(x), note) for x in page
            ]
            await self._participant.record(decision)
            for stored in page:
                self._tell(stored, lets_go=lets_go)
            done += len(page)
            if choice.ids:
                break
        return Acknowledged(outcome=verb, message=f"{done} dead letter{'s' * (done != 1)}: {said}")

    async def _page(self, choice: LetterChoice, after: tuple[int, int, int] | None) -> list[StoredDelivery]:
        if choice.ids:
            return [await self._stored(letter) for letter in dict.fromkeys(choice.ids)]
        which = LetterFilter(
            subscription=choice.subscription,
            reason=choice.reason,
            fingerprint=choice.fingerprint,
            after=after,
            limit=PAGE,
        )
        return await self._store.dead_letters(which)

    def _pass(self, messages: Messages, stored: StoredDelivery) -> None:
        """Record that the order of a stream goes on behind an event."""
        if (policy := self._policy(stored)) is not None:
            messages.seen = [*messages.seen, *inbox.seen(policy, stored.event)]

    def _policy(self, stored: StoredDelivery) -> Policy | None:
        return self._inlet.policy(stored.name, stored.delivery.subscription)

    def _tell(self, stored: StoredDelivery, *, lets_go: bool) -> None:
        subscriber = self._inlet.subscribers.get(stored.name)
        if subscriber is None:
            return
        if lets_go:
            subscriber.let_go(stored.event, stored.delivery.key, stored.delivery.entry)
        else:
            subscriber.wake_due()

    def _now(self) -> int:
        return self._participant.clock.now_ms()


def _outcome(stored: StoredDelivery) -> str:
    return f"{stored.event.event} {stored.event.source} {stored.event.message}"


def _required(note: Any) -> str:
    if not isinstance(note, str) or not note.strip():
        raise InvalidPayload("a reason is missing", remedy="Say why, with note: it is kept in the audit", path="$.note")
    return note
