"""The public `App`: the runtime's, with a command line of its own, and as an ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minuet.runtime.app import App as RuntimeApp

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class App(RuntimeApp):
    """A program of services and workflows over one store; see `minuet.runtime.app.App` for its arguments.

    `async with app:` opens it; `app.main()` is its command line; and it can be mounted as an ASGI application.
    """

    _server: ASGIApp | None = None

    def main(self) -> None:
        """Be the command line, for `if __name__ == "__main__": app.main()`."""
        from minuet.tools.cli.main import main

        main(obj=self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection; with the lifespan protocol the app is opened and closed."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._server is None:
            from minuet.server.app import make_server

            self._server = make_server(self.control)
        await self._server(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        opened: Any = await receive()
        assert opened["type"] == "lifespan.startup"
        try:
            await self.open()
        except Exception as e:
            await send({"type": "lifespan.startup.failed", "message": str(e)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        self._server = None
        await send({"type": "lifespan.shutdown.complete"})
