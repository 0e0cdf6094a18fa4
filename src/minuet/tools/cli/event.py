"""`minuet events`: events from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from minuet.tools.cli.json_input import read_input
from minuet.tools.cli.reach import Place, perform, reach, reaching
from minuet.tools.output import escaped, print_json, print_line

if TYPE_CHECKING:
    from minuet.runtime.view import EventReceipt


@click.group()
def events() -> None:
    """Send events from outside."""


@events.command()
@click.argument("type_", metavar="TYPE")
@click.option("--key", required=True, help="By which a wait finds it.")
@click.option("--data", required=True, metavar="JSON", help="JSON, @FILE, or - for stdin.")
@click.option("--id", "id_", help="The same id again is recognised, and not taken twice.")
@click.option("--source", default="", help="Who made the id; ids are unique within a source.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def send(*, place: Place, type_: str, key: str, data: str, id_: str | None, source: str, as_json: bool) -> None:
    """Send an event; it is kept where nobody waits for it yet."""

    async def sending() -> EventReceipt:
        async with reach(place, changing=True) as control:
            return await control.send(type_, key, read_input(data), id_=id_, source=source)

    receipt = perform(sending())
    if as_json:
        print_json({"event": receipt})
        return
    fate = {
        "accepted": f"accepted, {receipt.waiting} waiting" if receipt.waiting else "accepted, kept (nobody waits yet)",
        "duplicate": "was there already; nothing is done twice",
    }.get(receipt.outcome, receipt.outcome)
    print_line(f"event {escaped(receipt.id)}  {fate}")
