"""The verbs over events: subscriptions, dead letters, and what may be done about them.

`Letters` is what can be asked; `LetterReading` is the half of it that needs no process, over any store.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from minuet.engine.dead_letter import letter_id, parse_letter
from minuet.engine.inbox import errors_of
from minuet.engine.port import LetterFilter, StoredDelivery, StoreReads
from minuet.errors import NotFound
from minuet.runtime.view import Acknowledged, DeadLetterView, FailedAttemptView, SubscriptionView

CAUSES_SHOWN = 16
PAGE = 200


class LetterChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: those of `ids`, or all that fit the rest; `everything` says that all are."""

    ids: tuple[str, ...] = ()
    subscription: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    everything: bool = False


ANY = LetterChoice()
"""Any of them: for lists."""
EVERYTHING = LetterChoice(everything=True)
"""All of them: who changes something has to say so."""


class Letters(Protocol):
    """The verbs. A dead letter is named `service.reaction:entry`. Events are JSON text."""

    async def dead_letters(
        self, choice: LetterChoice = ANY, *, after: str | None = None, limit: int = 100
    ) -> list[DeadLetterView]:
        """List dead letters, oldest first; `after` is the last id of the page before."""
        ...

    async def dead_letter(self, letter: str) -> DeadLetterView:
        """Give one, with the events that caused it. Raises NotFound."""
        ...

    async def subscriptions(self) -> list[SubscriptionView]:
        """List subscriptions, and how far each is."""
        ...

    async def retry(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Take dead letters up again, now."""
        ...

    async def edit(self, letter: str, data: bytes, *, who: str = "", note: str) -> Acknowledged:
        """Correct the data of one, and take it up again."""
        ...

    async def skip(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Let the keys go on that they hold up; they stay on the list."""
        ...

    async def discard(self, choice: LetterChoice, *, who: str = "", note: str) -> Acknowledged:
        """Give them up for good; the audit keeps that, and why."""
        ...

    async def replay(
        self,
        subscription: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        """Have events of a time applied once more by one subscription."""
        ...


class LetterReading:
    """What can be read of events."""

    def __init__(self, store: StoreReads) -> None:
        self._store = store

    async def dead_letters(
        self, choice: LetterChoice = ANY, *, after: str | None = None, limit: int = 100
    ) -> list[DeadLetterView]:
        """List dead letters, oldest first."""
        if choice.ids:
            return [described(await self._stored(letter)) for letter in choice.ids[:limit]]
        last = (await self._stored(after)).delivery if after is not None else None
        found = await self._store.dead_letters(
            LetterFilter(
                subscription=choice.subscription,
                reason=choice.reason,
                fingerprint=choice.fingerprint,
                after=None if last is None else (last.last_at_ms, last.subscription, last.entry),
                limit=limit,
            )
        )
        return [described(stored) for stored in found]

    async def dead_letter(self, letter: str) -> DeadLetterView:
        """Give one, with the events that caused it, the nearest first."""
        stored = await self._stored(letter)
        causes = list[str]()
        cause = stored.event.causes
        while cause and len(causes) < CAUSES_SHOWN:
            found = await self._store.find_published(None, cause)
            causes.append(cause if found is None else f"{found.event} {found.key} ({found.source}, {cause})")
            cause = "" if found is None else found.causes
        return msgspec.structs.replace(described(stored), causes=causes)

    async def subscriptions(self) -> list[SubscriptionView]:
        """List subscriptions, and how far each is."""
        return [
            SubscriptionView(
                name=row.name,
                event=row.event,
                position=row.position,
                newest=await self._store.newest_of(row.event),
                active=bool(row.active),
                since_ms=row.since_ms,
                late=row.late,
            )
            for row in await self._store.subscriptions()
            if not row.name.startswith("@")  # what a participant keeps for itself
        ]

    async def _stored(self, letter: str) -> StoredDelivery:
        named = parse_letter(letter)
        if named is not None:
            found = await self._store.dead_letters(LetterFilter(subscription=named[0], entry=named[1], limit=1))
            if found:
                return found[0]
        raise NotFound(f"there is no dead letter {letter!r}", remedy="List them: minuet failed list", letter=letter)


def described(stored: StoredDelivery) -> DeadLetterView:
    """Give a dead letter as it is told."""
    row, event, name = stored
    attempts = [FailedAttemptView(at_ms=at_ms, error=error) for at_ms, error in errors_of(row)]
    return DeadLetterView(
        id=letter_id(name, row.entry),
        subscription=name,
        event=event.event,
        version=event.version,
        key=event.key,
        source=event.source,
        message=event.message,
        state=row.state,
        reason=row.reason or "",
        error=attempts[-1].error if attempts else "",
        fingerprint=row.fingerprint or "",
        attempts=attempts,
        first_at_ms=row.first_at_ms,
        last_at_ms=row.last_at_ms,
        published_at_ms=event.at_ms,
        hops=event.hops,
        causes=[event.causes] if event.causes else [],
        data=_data(row.body if row.body is not None else event.body),
        is_edited=row.body is not None,
    )


def _data(body: str) -> object:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body
