"""The outermost layer: what is refused before any route is looked at.

The API listens on loopback only, and has no tokens. What is left to fear is a page in a browser of this machine:
its requests arrive here too. So a request must be for a loopback name (a page that has its own name rebound to
127.0.0.1 sends that name), must not come from a page of another origin, and what changes something must be JSON
(which a form cannot send, and a script only after asking, which is never granted).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minuet.runtime.settings import is_loopback
from minuet.server.problem import Refusal, answer_refusal

READING: Final = frozenset({"GET", "HEAD"})


class Guard:
    """Lets through what this machine's own programs ask."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI says."""
        if scope["type"] != "http":
            return  # lifespan and websockets are nothing that we have
        try:
            check(scope["method"], Headers(scope=scope))
        except Refusal as refusal:
            await (await answer_refusal(Request(scope), refusal))(scope, receive, _closed(send))
            return
        await self._app(scope, receive, _closed(send))


def check(method: str, headers: Headers) -> None:
    """Refuse what must not come in.

    Raises:
        Refusal: it is for another host, from another origin, or no JSON.
    """
    host = headers.get("host", "")
    if not is_loopback(_name(host)):
        raise Refusal("forbidden-host", f"the request is for {host[:100]!r}, not for this machine", "Ask 127.0.0.1")
    origin = headers.get("origin")
    if origin is not None and not is_loopback(_name(urlsplit(origin).netloc if "//" in origin else "")):
        raise Refusal(
            "forbidden-origin", f"the request comes from a page of {origin[:100]!r}", "Ask from a program, not a page"
        )
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method not in READING and kind != "application/json":
        raise Refusal(
            "unsupported-media-type",
            f"the content type is {kind[:100]!r}" if kind else "the content type is missing",
            "Send JSON, with the header Content-Type: application/json",
        )


def _name(host: str) -> str:
    """Give a host without its port: `localhost:8640`, `[::1]:8640`."""
    if host.startswith("["):
        return host.partition("]")[0]
    return host.partition(":")[0]


def _closed(send: Send) -> Send:
    """Have each answer say that it is nothing for a cache, and is what its type says."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Cache-Control"] = "no-store"
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return sending
