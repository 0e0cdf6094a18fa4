"""`minuet plan retire`, and who has acknowledged a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from minuet.tools.cli.reach import Place, perform, reach, reaching, who
from minuet.tools.output import escaped, print_json, print_line

if TYPE_CHECKING:
    from minuet.runtime.view import Acknowledged, PlanView


def known_by(plan: PlanView) -> str:
    """Give who knows a plan: a count, and by name who does not, with why where they refuse it."""
    if not plan.participants:
        return "-"
    missing = [p for p in plan.participants if p.acknowledged_at_ms is None]
    count = f"{len(plan.participants) - len(missing)} of {len(plan.participants)}"
    named = "; ".join(f"{p.participant} refuses: {p.refused}" if p.refused else f"not {p.participant}" for p in missing)
    return f"{count}, {named}" if named else count


@click.command(short_help="Remove a plan that no unfinished run has, everywhere.")
@click.argument("digest", metavar="DIGEST")
@click.option("--note", help="Why; kept in the audit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def retire(*, place: Place, digest: str, note: str | None, yes: bool, as_json: bool) -> None:
    """Remove a plan that no unfinished run has, from every participant that knows it."""
    if not yes:
        click.confirm(f"Remove plan {escaped(digest)} everywhere?", abort=True, err=True)

    async def asking() -> Acknowledged:
        async with reach(place, changing=True) as control:
            return await control.retire(digest, who=who(), note=note)

    said = perform(asking())
    if as_json:
        print_json({"outcome": said.outcome, "message": said.message})
    else:
        print_line(escaped(said.message))
