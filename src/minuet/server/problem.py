"""What went wrong, as `application/problem+json` (RFC 9457): one table says which error has which status.

The errors themselves know nothing of HTTP. Each answer has the stable code, what happened, and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from minuet.errors import (
    Busy,
    Conflict,
    InvalidPayload,
    MinuetError,
    MisplacedCall,
    NotFound,
    NotRunning,
    RunFailed,
    StoreFull,
    StoreUnavailable,
)

STATUS: Final[Mapping[type[MinuetError], int]] = {
    InvalidPayload: 422,
    NotFound: 404,
    Conflict: 409,
    RunFailed: 409,
    MisplacedCall: 422,
    Busy: 429,
    NotRunning: 503,
    StoreUnavailable: 503,
    StoreFull: 507,
    MinuetError: 500,
}
"""The status of each error; of a class that is not listed, that of its nearest ancestor."""

CODES: Final[Mapping[str, int]] = {
    "bad-request": 400,
    "forbidden-host": 403,
    "forbidden-origin": 403,
    "no-route": 404,
    "method-not-allowed": 405,
    "unsupported-media-type": 415,
    "internal": 500,
}
"""Codes that only HTTP has, with their status."""


class Refusal(Exception):
    """A request that is refused before anybody is asked. `code` is one of `CODES`, or of an error."""

    def __init__(self, code: str, message: str, remedy: str, *, status: int | None = None, **subject: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.status = CODES[code] if status is None else status
        self.subject = subject


def status_of(error: MinuetError) -> int:
    """Give the status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    *, status: int, code: str, message: str, remedy: str = "", subject: Mapping[str, Any] | None = None
) -> Response:
    """Make the answer that says what went wrong."""
    content = {
        "type": f"urn:minuet:error:{code}",
        "title": code,
        "status": status,
        "detail": message,
        "code": code,
        "remedy": remedy,
        "subject": dict(subject or {}),
    }
    raw = msgspec.json.encode(content, enc_hook=repr)
    return Response(raw, status_code=status, media_type="application/problem+json")


async def answer_error(_: Request, error: Exception) -> Response:
    """Answer for a known error."""
    assert isinstance(error, MinuetError)
    answer = problem(
        status=status_of(error), code=error.code, message=error.message, remedy=error.remedy, subject=error.subject
    )
    if isinstance(error, Busy):
        answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return answer


async def answer_refusal(_: Request, error: Exception) -> Response:
    """Answer for a request that was refused."""
    assert isinstance(error, Refusal)
    return problem(
        status=error.status, code=error.code, message=error.message, remedy=error.remedy, subject=error.subject
    )


async def answer_routing(request: Request, error: Exception) -> Response:
    """Answer where there is no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    code = {404: "no-route", 405: "method-not-allowed"}.get(error.status_code, "bad-request")
    message = {
        "no-route": f"there is nothing at {request.url.path}",
        "method-not-allowed": f"{request.url.path} does not take {request.method}",
    }.get(code, error.detail)
    answer = problem(status=error.status_code, code=code, message=message, remedy="See the HTTP reference")
    answer.headers.update(error.headers or {})
    return answer


async def answer_unexpected(_request: Request, _error: Exception) -> Response:
    """Answer for a mistake of ours; the traceback goes to the log, and nothing of it to whoever asked."""
    return problem(
        status=500,
        code="internal",
        message="something went wrong inside",
        remedy="See the log of the process; the same request again is safe where it has a key or an id",
    )
