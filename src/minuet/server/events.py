"""The route of events from outside."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from minuet.runtime.control import Control
from minuet.server.answer import json_answer
from minuet.server.request import read_body, read_query


class EventBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event: with an `id`, the same again (of the same source) is recognised."""

    key: str
    data: msgspec.Raw
    id: str | None = None
    source: str = ""


def event_routes(control: Control) -> list[Route]:
    """Give the route of events."""

    async def send(request: Request) -> Response:
        read_query(request, [])
        body = await read_body(request, EventBody)
        receipt = await control.send(
            request.path_params["event"], body.key, bytes(body.data), id_=body.id, source=body.source
        )
        return json_answer(receipt, status=200 if receipt.outcome == "duplicate" else 202)

    return [Route("/api/v1/events/{event}", send, methods=["POST"])]
