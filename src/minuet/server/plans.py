"""Routes of plans, and of what is parked."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from minuet.runtime.control import Control
from minuet.server.answer import json_answer
from minuet.server.request import read_body, read_query, whole_number


class RetireBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks, and why."""

    who: str = ""
    note: str | None = None


def plan_routes(control: Control) -> list[Route]:
    """Give the routes of plans."""

    async def plans(request: Request) -> Response:
        read_query(request, [])
        return json_answer({"plans": await control.plans()})

    async def plan(request: Request) -> Response:
        read_query(request, [])
        return Response(await control.plan(request.path_params["name"]), media_type="application/json")

    async def retire(request: Request) -> Response:
        read_query(request, [])
        body = await read_body(request, RetireBody, may_be_empty=True)
        return json_answer(await control.retire(request.path_params["name"], who=body.who, note=body.note))

    async def failed(request: Request) -> Response:
        query = read_query(request, ["limit"])
        return json_answer({"failed": await control.failed(whole_number(query, "limit", 100, 1, 1_000) or 100)})

    return [
        Route("/api/v1/plans", plans, methods=["GET"]),
        Route("/api/v1/plans/{name}", plan, methods=["GET"]),
        Route("/api/v1/plans/{name}/retire", retire, methods=["POST"]),
        Route("/api/v1/failed", failed, methods=["GET"]),
    ]
