"""Routes of dead letters and subscriptions: list, show, and what an operator may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from minuet.runtime.control import Control
from minuet.runtime.letters import ANY, LetterChoice
from minuet.runtime.view import Acknowledged
from minuet.server.answer import json_answer
from minuet.server.problem import Refusal
from minuet.server.request import read_body, read_query, whole_number


class LetterBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a verb over one dead letter is told: who asks, and why."""

    who: str = ""
    note: str | None = None


class EditBody(LetterBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The corrected data."""

    data: msgspec.Raw


class BulkBody(LetterBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters: these, or all that fit the rest. `everything` has to be said where nothing else is."""

    ids: tuple[str, ...] = ()
    subscription: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    everything: bool = False


class ReplayBody(LetterBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which time: from the beginning and until now, where nothing is said."""

    since_ms: int | None = None
    until_ms: int | None = None


Verb = Callable[[LetterChoice, LetterBody], Awaitable[Acknowledged]]


def letter_routes(control: Control) -> list[Route]:
    """Give the routes of dead letters and subscriptions."""

    async def listed(request: Request) -> Response:
        query = read_query(request, ["subscription", "reason", "fingerprint", "after", "limit"])
        choice = LetterChoice(
            subscription=query.get("subscription"), reason=query.get("reason"), fingerprint=query.get("fingerprint")
        )
        limit = whole_number(query, "limit", 100, 1, 1_000) or 100
        found = await control.letters.dead_letters(choice, after=query.get("after"), limit=limit)
        return json_answer({"dead_letters": found, "next": found[-1].id if len(found) == limit else None})

    async def show(request: Request) -> Response:
        read_query(request, [])
        return json_answer(await control.letters.dead_letter(request.path_params["letter"]))

    async def edit(request: Request) -> Response:
        read_query(request, [])
        body = await read_body(request, EditBody)
        data = bytes(body.data)
        return json_answer(
            await control.letters.edit(request.path_params["letter"], data, who=body.who, note=body.note or "")
        )

    async def subscriptions(request: Request) -> Response:
        read_query(request, [])
        return json_answer({"subscriptions": await control.letters.subscriptions()})

    async def replay(request: Request) -> Response:
        read_query(request, [])
        body = await read_body(request, ReplayBody, may_be_empty=True)
        said = await control.letters.replay(
            request.path_params["subscription"],
            since_ms=body.since_ms,
            until_ms=body.until_ms,
            who=body.who,
            note=body.note,
        )
        return json_answer(said)

    async def retry(choice: LetterChoice, body: LetterBody) -> Acknowledged:
        return await control.letters.retry(choice, who=body.who, note=body.note)

    async def skip(choice: LetterChoice, body: LetterBody) -> Acknowledged:
        return await control.letters.skip(choice, who=body.who, note=body.note)

    async def discard(choice: LetterChoice, body: LetterBody) -> Acknowledged:
        return await control.letters.discard(choice, who=body.who, note=body.note or "")

    verbs: list[tuple[str, Verb]] = [("retry", retry), ("skip", skip), ("discard", discard)]
    return [
        Route("/api/v1/dead-letters", listed, methods=["GET"]),
        *(Route(f"/api/v1/dead-letters/{name}", _many(verb), methods=["POST"]) for name, verb in verbs),
        Route("/api/v1/dead-letters/{letter}", show, methods=["GET"]),
        Route("/api/v1/dead-letters/{letter}", edit, methods=["PATCH"]),
        *(Route(f"/api/v1/dead-letters/{{letter}}/{name}", _one(verb), methods=["POST"]) for name, verb in verbs),
        Route("/api/v1/subscriptions", subscriptions, methods=["GET"]),
        Route("/api/v1/subscriptions/{subscription}/replay", replay, methods=["POST"]),
    ]


def _one(verb: Verb) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        read_query(request, [])
        body = await read_body(request, LetterBody, may_be_empty=True)
        choice = LetterChoice(ids=(request.path_params["letter"],))
        return json_answer(await verb(choice, body))

    return endpoint


def _many(verb: Verb) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        read_query(request, [])
        body = await read_body(request, BulkBody)
        choice = LetterChoice(
            ids=body.ids,
            subscription=body.subscription,
            reason=body.reason,
            fingerprint=body.fingerprint,
            everything=body.everything,
        )
        if choice == ANY:
            raise Refusal(
                "bad-request",
                "no dead letter is named",
                'Send ids, subscription, reason or fingerprint; for all of them "everything": true',
            )
        return json_answer(await verb(choice, body))

    return endpoint
