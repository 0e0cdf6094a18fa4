"""Alive, ready, and how the process is.

`/healthz` and `/readyz` say nothing but that, on exact paths. Both are answered by the event loop: where it is
blocked, they do not answer, and whoever probes sees a timeout.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from minuet.runtime.control import Control
from minuet.server.answer import json_answer
from minuet.server.request import read_query


def health_routes(control: Control) -> list[Route]:
    """Give the routes of health."""

    async def alive(_: Request) -> Response:
        return json_answer({"status": "alive"})

    async def ready(_: Request) -> Response:
        health = await control.health()
        if health.ready and not health.draining:
            return json_answer({"status": "ready"})
        return json_answer({"status": "unready"}, status=503)

    async def health(request: Request) -> Response:
        read_query(request, [])
        return json_answer(await control.health())

    return [
        Route("/healthz", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/api/v1/health", health, methods=["GET"]),
    ]
