"""`minuet run`: open a program, listen, and leave in order when told to."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import click

from minuet.errors import DeclarationError
from minuet.tools.cli.reach import perform, store_url
from minuet.tools.output import Exit, escaped, print_line, remark

if TYPE_CHECKING:
    from minuet.runtime.app import App
    from minuet.runtime.settings import Settings


@click.command(short_help="Open a program, and perform what it is asked.")
@click.argument("app", required=False)
@click.option("--store", metavar="URL", help="Where facts are kept, as sqlite:///shop.db, or a file.")
@click.option("--port", type=int, help="Port of the API, 8640 by default; 0 takes any free one.")
@click.option("--host", help="Loopback address of the API.")
@click.option("--grace", metavar="DURATION", help="How long running actions may go on after SIGTERM; 25s by default.")
@click.option(
    "--store-per-service",
    is_flag=True,
    default=None,
    help="Give each service a store of its own beside the store; they share nothing but messages.",
)
@click.pass_context
def run(
    context: click.Context,
    *,
    app: str | None,
    store: str | None,
    port: int | None,
    host: str | None,
    grace: str | None,
    store_per_service: bool | None,
) -> None:
    """Open APP (module:app), and perform what it is asked until SIGTERM or Ctrl-C."""
    from minuet.runtime.settings import load_settings
    from minuet.tools.loading import load_app
    from minuet.tools.log import configure_log

    flags = {"store_url": store_url(store), "port": port, "host": host, "grace": grace}
    flags["store_per_service"] = store_per_service
    program: App | None = context.obj
    if program is None or app is not None:
        name = app or load_settings(flags=flags).app
        if name is None:
            raise DeclarationError(
                "no app is named", remedy='Name it: minuet run MODULE:APP, or app = "MODULE:APP" in minuet.toml'
            )
        program = load_app(name)
    settings = load_settings(flags=flags, app=program.given)
    configure_log(settings.log_level)
    perform(_running(program, settings))


async def _running(app: App, settings: Settings) -> None:
    from minuet.runtime.process import tune_process
    from minuet.server.app import make_server
    from minuet.server.listener import serve

    told = _stop_when_told()
    await app.open(settings)
    try:
        async with serve(make_server(app.control), host=settings.host, port=settings.port) as address:
            tune_process()
            app.publish_address(address)
            print_line(_summary(app, settings, address))
            await told.wait()
            remark(f"stopping; what runs has {settings.grace_ms / 1_000:g} s to come to its end")
            await app.stop(settings.grace_ms)
    finally:
        await app.stop(settings.grace_ms)


def _stop_when_told() -> asyncio.Event:
    """Give what is set by the first SIGTERM or SIGINT; the second leaves at once, and the work is taken up later."""
    told = asyncio.Event()

    def tell() -> None:
        if told.is_set():
            os._exit(Exit.FAILED)
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    return told


def _summary(app: App, settings: Settings, address: str) -> str:
    from minuet.runtime.settings import masked

    def many(n: int, thing: str) -> str:
        return f"{n} {thing}{'' if n == 1 else 's'}"

    scheme, _, rest = masked(settings.store_url).partition("://")
    store = f"{scheme} {rest.removeprefix('/') or 'in memory'}"
    contents = f"{many(len(app.workflows), 'workflow')}, {many(len(app.services), 'service')}"
    return escaped(f"{app.name}: {contents} · {store} · {settings.broker_url.partition(':')[0]} · {address}")
