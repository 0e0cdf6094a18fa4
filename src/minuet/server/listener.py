"""Listening: uvicorn inside the caller's event loop, begun and ended by the caller, who has the signals."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from minuet.errors import Conflict, SettingsError
from minuet.runtime.settings import is_loopback

CONNECTIONS_MAX: Final = 1_024
BACKLOG: Final = 1_024
LEAVING_S: Final = 2
"""How long requests that are being answered may go on once the listener ends: waiting ones ask again elsewhere."""


class _Server(uvicorn.Server):
    """uvicorn, without its own ideas about signals; `listening` is set once it has begun, or could not."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 8640) -> AsyncIterator[str]:
    """Listen while the block lasts; gives the address, as a URL. Port 0: any free one.

    Raises:
        SettingsError: the host is not loopback: the API has no tokens.
        Conflict: another process listens there.
    """
    bound = _bind(host, port)
    place = bound.getsockname()
    address = f"http://[{place[0]}]:{place[1]}" if bound.family == socket.AF_INET6 else f"http://{place[0]}:{place[1]}"
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=LEAVING_S,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[bound]), name="minuet-http")
    try:
        await server.listening.wait()
        yield address
    finally:
        server.should_exit = True
        await task
        bound.close()


def _bind(host: str, port: int) -> socket.socket:
    if not is_loopback(host):
        raise SettingsError(
            f"the API cannot listen at {host}: other machines could reach it, and it has no tokens yet",
            remedy="Listen at 127.0.0.1, and let a proxy that knows its users stand before it",
            setting="host",
        )
    name = "127.0.0.1" if host.lower() == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ipaddress.ip_address(name).version == 6 else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((name, port))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise Conflict(
            f"{name}:{port} cannot be listened at: {error.strerror}",
            remedy="Stop what listens there, or choose another port: --port 0 takes any free one",
            host=name,
            port=port,
        ) from error
    return bound
