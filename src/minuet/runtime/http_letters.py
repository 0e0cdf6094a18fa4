"""`Letters`, asked of another process over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from minuet.runtime.letters import ANY, EVERYTHING, LetterChoice
from minuet.runtime.view import Acknowledged, DeadLetterView, SubscriptionView

T = TypeVar("T")
Ask = Callable[..., Awaitable[Any]]

_LETTERS = "/api/v1/dead-letters"


class _Letters(msgspec.Struct):
    dead_letters: list[DeadLetterView]


class _Subscriptions(msgspec.Struct):
    subscriptions: list[SubscriptionView]


class HttpLetters:
    """The verbs over HTTP; `get` and `post` are the client's."""

    def __init__(self, get: Ask, send: Ask) -> None:
        self._get = get
        self._send = send

    async def dead_letters(
        self, choice: LetterChoice = ANY, *, after: str | None = None, limit: int = 100
    ) -> list[DeadLetterView]:
        """List dead letters, oldest first."""
        if choice.ids:
            return [await self.dead_letter(letter) for letter in choice.ids[:limit]]
        query = {
            "subscription": choice.subscription,
            "reason": choice.reason,
            "fingerprint": choice.fingerprint,
            "after": after,
            "limit": limit,
        }
        found: _Letters = await self._get(_LETTERS, _Letters, query)
        return found.dead_letters

    async def dead_letter(self, letter: str) -> DeadLetterView:
        """Give one, with the events that caused it."""
        found: DeadLetterView = await self._get(_path(letter), DeadLetterView)
        return found

    async def subscriptions(self) -> list[SubscriptionView]:
        """List subscriptions, and how far each is."""
        found: _Subscriptions = await self._get("/api/v1/subscriptions", _Subscriptions)
        return found.subscriptions

    async def retry(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Take dead letters up again, now."""
        return await self._choose("retry", choice, who, note)

    async def edit(self, letter: str, data: bytes, *, who: str = "", note: str) -> Acknowledged:
        """Correct the data of one, and take it up again."""
        return await self._said("PATCH", _path(letter), {"data": data, "who": who, "note": note})

    async def skip(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Let the keys go on that they hold up; they stay on the list."""
        return await self._choose("skip", choice, who, note)

    async def discard(self, choice: LetterChoice, *, who: str = "", note: str) -> Acknowledged:
        """Give them up for good."""
        return await self._choose("discard", choice, who, note)

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
        path = f"/api/v1/subscriptions/{quote(subscription, safe='')}/replay"
        return await self._said("POST", path, {"since_ms": since_ms, "until_ms": until_ms, "who": who, "note": note})

    async def _choose(self, verb: str, choice: LetterChoice, who: str, note: str | None) -> Acknowledged:
        if len(choice.ids) == 1:
            return await self._said("POST", f"{_path(choice.ids[0])}/{verb}", {"who": who, "note": note})
        which = {name: value for name, value in msgspec.structs.asdict(choice).items() if value}
        if choice == EVERYTHING:
            which["everything"] = True
        return await self._said("POST", f"{_LETTERS}/{verb}", {**which, "who": who, "note": note})

    async def _said(self, method: str, path: str, body: dict[str, Any]) -> Acknowledged:
        said: Acknowledged = await self._send(method, path, body, Acknowledged)
        return said


def _path(letter: str) -> str:
    return f"{_LETTERS}/{quote(letter, safe='')}"
