"""Routes of runs: start, list, show, and what an operator may do to one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from minuet.engine.row import ENDED, RunState
from minuet.runtime.control import Control
from minuet.runtime.view import Acknowledged, RunView
from minuet.server.answer import json_answer
from minuet.server.problem import Refusal
from minuet.server.request import read_body, read_query, wait_s, whole_number

PAGE_MAX: Final = 500
_STATES: Final = tuple(state.value for state in RunState)


class StartBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What starts a run."""

    input: msgspec.Raw = msgspec.Raw()  # empty: none was sent
    key: str | None = None
    on_duplicate: Literal["same", "refuse"] = "same"
    again: bool = False


class VerbBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator's verb is told: who asks, and why."""

    who: str = ""
    note: str | None = None


class RetryBody(VerbBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which position is taken up again; all of the run by default."""

    position: str | None = None


class SkipBody(VerbBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which compensation is recorded as done."""

    position: str


class ResolveBody(VerbBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done by hand: a result, a rejection, or neither, for a compensation."""

    position: str
    result: msgspec.Raw = msgspec.Raw()
    reject: str | None = None


def run_routes(control: Control) -> list[Route]:
    """Give the routes of runs."""

    async def start(request: Request) -> Response:
        wait = wait_s(read_query(request, ["wait"]))
        body = await read_body(request, StartBody)
        if (header := request.headers.get("idempotency-key")) is not None and header != body.key:
            raise Refusal(
                "bad-request",
                "the header Idempotency-Key names another key than the body",
                'Send the key in the body, as "key"',
            )
        view, is_new = await control.start(
            request.path_params["workflow"],
            _raw(body.input),
            key=body.key,
            on_duplicate=body.on_duplicate,
            again=body.again,
            wait_for_room=False,  # whoever is elsewhere is told to come again, and holds nothing here meanwhile
        )
        if wait is not None:
            view = await control.wait(view.run, wait)
        answer = json_answer(view, status=201 if is_new else 200)
        answer.headers["Location"] = f"/api/v1/runs/{view.run}"
        return answer

    async def runs(request: Request) -> Response:
        query = read_query(request, ["state", "workflow", "key", "since_ms", "before", "limit", "late"])
        limit = whole_number(query, "limit", 50, 1, PAGE_MAX) or 50
        listed = await control.runs(
            states=_states(query.get("state", "")),
            workflow=query.get("workflow"),
            key=query.get("key"),
            since_ms=whole_number(query, "since_ms", None, 0, 10**15),
            before=query.get("before"),
            limit=limit,
            late=query.get("late", "false") == "true",
        )
        return json_answer({"runs": listed, "next": listed[-1].run if len(listed) == limit else None})

    async def show(request: Request) -> Response:
        query = read_query(request, ["wait", "facts"])
        run = request.path_params["run"]
        wants_facts = query.get("facts", "true") != "false"
        if (wait := wait_s(query)) is not None:
            await control.wait(run, wait)
        return json_answer(await control.show(run, facts=wants_facts))

    async def facts(request: Request) -> Response:
        read_query(request, [])
        return json_answer({"facts": (await control.show(request.path_params["run"], facts=True)).facts})

    async def result(request: Request) -> Response:
        wait = wait_s(read_query(request, ["wait"]))
        run = request.path_params["run"]
        view = await (control.wait(run, wait) if wait is not None else control.show(run, facts=False))
        return json_answer(_result(view), status=200 if view.state in ENDED else 202)

    async def retry(run: str, body: RetryBody) -> Acknowledged:
        return await control.retry(run, body.position, who=body.who, note=body.note)

    async def skip(run: str, body: SkipBody) -> Acknowledged:
        return await control.skip(run, body.position, who=body.who, note=body.note)

    async def resolve(run: str, body: ResolveBody) -> Acknowledged:
        return await control.resolve(
            run, body.position, result=_raw(body.result), reject=body.reject, who=body.who, note=body.note
        )

    def plain(verb: Callable[..., Awaitable[Acknowledged]]) -> Callable[[str, Any], Awaitable[Acknowledged]]:
        return lambda run, body: verb(run, who=body.who, note=body.note)

    verbs: list[tuple[str, type[Any], Callable[[str, Any], Awaitable[Acknowledged]]]] = [
        ("cancel", VerbBody, plain(control.cancel)),
        ("terminate", VerbBody, plain(control.terminate)),
        ("pause", VerbBody, plain(control.pause)),
        ("resume", VerbBody, plain(control.resume)),
        ("retry", RetryBody, retry),
        ("resolve", ResolveBody, resolve),
        ("skip", SkipBody, skip),
    ]
    return [
        Route("/api/v1/workflows/{workflow}/runs", start, methods=["POST"]),
        Route("/api/v1/runs", runs, methods=["GET"]),
        Route("/api/v1/runs/{run}", show, methods=["GET"]),
        Route("/api/v1/runs/{run}/facts", facts, methods=["GET"]),
        Route("/api/v1/runs/{run}/result", result, methods=["GET"]),
        *(
            Route(f"/api/v1/runs/{{run}}/{name}", _verb(body_type, perform), methods=["POST"])
            for name, body_type, perform in verbs
        ),
    ]


def _verb(
    body_type: type[Any], perform: Callable[[str, Any], Awaitable[Acknowledged]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        read_query(request, [])
        body = await read_body(request, body_type, may_be_empty=True)
        return json_answer(await perform(request.path_params["run"], body))

    return endpoint


def _raw(value: msgspec.Raw) -> bytes | None:
    return bytes(value) or None


def _states(text: str) -> tuple[str, ...]:
    states = tuple(part for part in text.split(",") if part)
    for state in states:
        if state not in _STATES:
            raise Refusal(
                "bad-request",
                f"{state[:100]!r} is no state of a run",
                f"Known are: {', '.join(_STATES)}",
                parameter="state",
            )
    return states


def _result(view: RunView) -> dict[str, Any]:
    names = ("run", "key", "workflow", "state", "reason", "result", "rejection", "ended_at_ms")
    return {name: getattr(view, name) for name in names}
