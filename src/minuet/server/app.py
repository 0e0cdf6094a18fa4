"""The ASGI application: the guard outermost, the routes of each noun, and errors as problems."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from minuet.errors import MinuetError
from minuet.runtime.control import Control
from minuet.server.events import event_routes
from minuet.server.guard import Guard
from minuet.server.health import health_routes
from minuet.server.letters import letter_routes
from minuet.server.plans import plan_routes
from minuet.server.problem import Refusal, answer_error, answer_refusal, answer_routing, answer_unexpected
from minuet.server.runs import run_routes


def make_server(control: Control) -> ASGIApp:
    """Make the application that offers these verbs over HTTP."""
    application = Starlette(
        routes=[
            *run_routes(control),
            *event_routes(control),
            *letter_routes(control),
            *plan_routes(control),
            *health_routes(control),
        ],
        exception_handlers={
            MinuetError: answer_error,
            Refusal: answer_refusal,
            HTTPException: answer_routing,
            Exception: answer_unexpected,
        },
    )
    application.router.redirect_slashes = False  # one resource, one path
    return Guard(application)
