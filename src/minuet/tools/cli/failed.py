"""`minuet failed`: what is parked and waits for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from minuet.tools.cli.reach import Place, perform, reach, reaching
from minuet.tools.output import age_text, print_json, print_line, print_table, remark

if TYPE_CHECKING:
    from minuet.runtime.view import FailedView


@click.group(invoke_without_command=True)
@click.pass_context
def failed(context: click.Context) -> None:
    """List what is parked, with its cause."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@failed.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def list_(*, place: Place, limit: int = 100, as_json: bool = False) -> None:
    """List what is parked, with its cause."""
    from minuet.runtime.clock import SystemClock

    async def listing() -> list[FailedView]:
        async with reach(place) as control:
            return await control.failed(limit)

    found = perform(listing())
    if as_json:
        print_json({"failed": found})
        return
    if not found:
        remark("nothing is parked")
        return
    now_ms = SystemClock().now_ms()
    print_table(
        ("RUN", "KEY", "WHAT", "WHERE", "WHY", "ATTEMPTS", "FOR"),
        (
            (
                f.run or "-",
                f.key,
                f.kind,
                " ".join(part for part in (f.workflow, f.position) if part),
                f.reason,
                str(f.attempts) if f.attempts else "-",
                age_text(now_ms - f.first_at_ms),
            )
            for f in found
        ),
    )
    print_line()
    remark("Take one up again: minuet retry RUN [POSITION]")
