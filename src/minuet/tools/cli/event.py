"""`minuet events`: events from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from minuet.tools.cli.json_input import read_input
from minuet.tools.cli.reach import Place, perform, reach, reaching, who
from minuet.tools.output import escaped, print_json, print_line, print_table, remark

if TYPE_CHECKING:
    from minuet.runtime.view import Acknowledged, EventReceipt, SubscriptionView


@click.group()
def events() -> None:
    """Send events; see who hears them; replay."""


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


@events.command()
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def subscriptions(*, place: Place, as_json: bool) -> None:
    """List the reactions that hear events, and how far each is."""

    async def listing() -> list[SubscriptionView]:
        async with reach(place) as control:
            return await control.letters.subscriptions()

    found = perform(listing())
    if as_json:
        print_json({"subscriptions": found})
        return
    if not found:
        remark("no reaction has been heard of")
        return
    print_table(
        ("SUBSCRIPTION", "EVENT", "POSITION", "NEWEST", "STATE"),
        ((s.name, s.event, str(s.position), str(s.newest), "active" if s.active else "gone") for s in found),
    )


@events.command()
@click.argument("subscription", metavar="SUBSCRIPTION")
@click.option("--since", metavar="TIME", help="From here on: 2026-01-31T09:00:00+00:00, or how long ago: 2h.")
@click.option("--until", metavar="TIME", help="Up to here; likewise.")
@click.option("--note", help="Why; kept in the audit.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def replay(
    *, place: Place, subscription: str, since: str | None, until: str | None, note: str | None, as_json: bool
) -> None:
    """Have events applied once more by one reaction: service.reaction."""
    since_ms, until_ms = _instant_ms(since, "--since"), _instant_ms(until, "--until")

    async def replaying() -> Acknowledged:
        async with reach(place, changing=True) as control:
            return await control.letters.replay(
                subscription, since_ms=since_ms, until_ms=until_ms, who=who(), note=note
            )

    said = perform(replaying())
    if as_json:
        print_json({"outcome": said.outcome, "message": said.message})
    else:
        print_line(escaped(said.message))


def _instant_ms(text: str | None, option: str) -> int | None:
    """Read an instant, or how long ago it was."""
    if text is None:
        return None
    from datetime import datetime

    from minuet.runtime.clock import SystemClock
    from minuet.runtime.settings import duration_ms

    try:
        return SystemClock().now_ms() - duration_ms(text)
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{option} is no time: {text}") from None
    if instant.tzinfo is None:
        raise click.UsageError(f"{option} says nothing about the time zone: {text}+00:00 would be UTC.")
    return round(instant.timestamp() * 1000)
