"""How a request is read: the body within its limit and strictly, the query without anything that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request

from minuet.contracts.strict_json import read_json
from minuet.engine import bound
from minuet.errors import InvalidPayload
from minuet.runtime.settings import duration_ms
from minuet.server.problem import Refusal

T = TypeVar("T")

BODY_BYTES_MAX: Final = bound.INPUT_BYTES
WAIT_MS_MAX: Final = 60_000
"""The longest `?wait=`: whoever wants to wait longer asks again, and notices in time when nobody is there."""


async def read_body(request: Request, type_: type[T], *, may_be_empty: bool = False) -> T:
    """Read the body as a value of this type; at most 1 MiB of it is ever held.

    Raises:
        Refusal: too large (413), or not what it should be (400); `reason` and `path` say more.
    """
    raw = await _bytes(request)
    if not raw and may_be_empty:
        raw = b"{}"
    try:
        return msgspec.json.decode(read_json(raw, max_bytes=BODY_BYTES_MAX), type=type_)
    except InvalidPayload as error:
        raise Refusal(error.code, error.message, error.remedy, status=400, **error.subject) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Refusal(
            InvalidPayload.code, str(error), "See the HTTP reference for this route", status=400, reason="shape"
        ) from error


def read_query(request: Request, known: Iterable[str]) -> dict[str, str]:
    """Give the query; each name once, and only what the route knows: a misspelt filter would list too much."""
    known = [*known]
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(known) or 'none'}"
            raise Refusal("bad-request", f"{name[:100]!r} is no parameter of this route", remedy, parameter=name[:100])
        if name in found:
            raise Refusal("bad-request", f"{name} is there twice", "Send it once", parameter=name)
        found[name] = value
    return found


def whole_number(query: dict[str, str], name: str, default: int | None, least: int, most: int) -> int | None:
    """Give a parameter as a whole number within bounds."""
    if (text := query.get(name)) is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most:
        return int(text)
    raise Refusal(
        "bad-request", f"{name} is {text[:100]!r}", f"Give a whole number from {least} to {most}", parameter=name
    )


def wait_s(query: dict[str, str]) -> float | None:
    """Give `?wait=` in seconds, or None."""
    if (text := query.get("wait")) is None:
        return None
    try:
        wait_ms = duration_ms(text)
    except ValueError as error:
        raise Refusal("bad-request", f"wait: {error}", "Give a duration, as in wait=30s", parameter="wait") from error
    return min(wait_ms, WAIT_MS_MAX) / 1_000


async def _bytes(request: Request) -> bytes:
    """Read the body; whatever is longer than the limit is not even taken in."""
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > BODY_BYTES_MAX):
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> Refusal:
    return Refusal(
        InvalidPayload.code,
        f"the body is larger than {BODY_BYTES_MAX:,} bytes",
        "Keep large data elsewhere, and send where it is",
        status=413,
        reason="too-large",
    )
