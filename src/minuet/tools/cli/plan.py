"""`minuet plan`: plans, as text, as pictures, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from minuet.errors import NotFound
from minuet.tools.cli.activation import known_by, retire
from minuet.tools.cli.reach import Place, perform, reach, reaching
from minuet.tools.output import escaped, paint, print_json, print_line, print_table, remark, time_text

if TYPE_CHECKING:
    from minuet.plans.plan import Plan
    from minuet.runtime.view import PlanView

_SIGNS = {"added": ("+", "good"), "removed": ("-", "bad"), "changed": ("~", "odd"), "moved": (">", "odd")}
_NAMING = "A plan is named by its workflow, its digest, a FILE, or as MODULE:APP:WORKFLOW (from the source)."


@click.group()
def plan() -> None:
    """Show, list, compare and retire plans."""


plan.add_command(retire)


@plan.command("list")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def list_(*, place: Place, as_json: bool) -> None:
    """List the plans of the store, and how many unfinished runs each has."""
    from minuet.runtime.clock import SystemClock

    async def listing() -> list[PlanView]:
        async with reach(place) as control:
            return await control.plans()

    found = perform(listing())
    if as_json:
        print_json({"plans": found})
        return
    if not found:
        remark("no plans yet")
        return
    now_ms = SystemClock().now_ms()
    print_table(
        ("WORKFLOW", "DIGEST", "STYLE", "NEW RUNS", "UNFINISHED", "KNOWN BY", "SINCE"),
        (
            (
                p.workflow,
                p.digest,
                p.style,
                "take it" if p.current else "-",
                f"{p.open_runs:,}",
                known_by(p),
                time_text(p.created_at_ms, now_ms),
            )
            for p in found
        ),
    )


@plan.command(help=f"Show a plan: its steps, in the order of the text.\n\n{_NAMING}")
@click.argument("name", metavar="PLAN")
@click.option("--for", "participant", metavar="WHO", help="What one participant evaluates, hears and tells.")
@click.option("--format", "form", type=click.Choice(["text", "mermaid", "svg"]), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The plan itself, as it is stored; with --for, what that shows.")
@reaching
def show(*, place: Place, name: str, participant: str | None, form: str, as_json: bool) -> None:
    """Show a plan."""
    from minuet.observe.diagram import svg
    from minuet.observe.mermaid import mermaid

    if participant is not None and form != "text":
        raise click.UsageError(f"--for has no picture: it does not go with --format {form}.")
    shown = _plan(place, name)
    if participant is not None:
        _print_projection(shown, participant, as_json=as_json)
    elif as_json:
        print_line(shown.to_json().decode())
    elif form == "svg":
        print_line(svg(shown).rstrip())
    elif form == "mermaid":
        print_line(mermaid(shown).rstrip())
    else:
        _print_plan(shown)


@plan.command(help=f"Say what differs between two plans, and what that means for runs in flight.\n\n{_NAMING}")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def diff(*, place: Place, old: str, new: str, as_json: bool) -> None:
    """Compare two plans."""
    from dataclasses import asdict

    from minuet.plans.change import compare

    before, after = _plan(place, old), _plan(place, new)
    change = compare(before, after)
    meaning = change.meaning(_open_runs(place, before.digest))
    if as_json:
        print_json({**asdict(change), "same": change.is_same, "meaning": meaning})
        return
    for what in change.whole:
        print_line(f"{paint('~', 'odd')} {escaped(what)}")
    only_moved = [f"{d.was} -> {d.position}" for d in change.differences if d.kind == "moved" and not d.details]
    if only_moved:
        print_line(f"{paint('>', 'odd')} moved, and the same: {escaped(', '.join(only_moved))}")
    for d in change.differences:
        if d.kind == "moved" and not d.details:
            continue
        sign, tone = _SIGNS[d.kind]
        position = f"{d.was} -> {d.position}" if d.was else d.position
        print_line(f"{paint(sign, tone)} {escaped(position)}  {escaped(d.what)}")
        for detail in d.details:
            print_line(f"      {escaped(detail)}")
    print_line(escaped(meaning))


def _plan(place: Place, name: str) -> Plan:
    """Load a plan: from a file, from the source, or from the program or its store."""
    from minuet.plans.plan import load_plan

    file = Path(name)
    if file.is_file():
        return load_plan(file.read_bytes())
    if name.count(":") == 2:  # MODULE:APP:WORKFLOW
        from minuet.tools.loading import load_app

        app_name, _, workflow = name.rpartition(":")
        plans = load_app(app_name).plans()
        if workflow not in plans:
            raise NotFound(
                f"there is no workflow {workflow!r} in {app_name}", remedy=f"There are: {', '.join(plans) or 'none'}"
            )
        return plans[workflow]

    async def asking() -> bytes:
        async with reach(place) as control:
            return await control.plan(name)

    return load_plan(perform(asking()))


def _open_runs(place: Place, digest: str) -> int | None:
    """Give how many unfinished runs a plan has; None where there is neither a program nor a store to ask."""
    from minuet.errors import NotRunning

    async def asking() -> int | None:
        async with reach(place) as control:
            return next((p.open_runs for p in await control.plans() if p.digest == digest), None)

    try:
        return perform(asking())
    except (NotFound, NotRunning):
        return None


def _print_projection(shown: Plan, participant: str, *, as_json: bool) -> None:
    from minuet.observe.projection import participants, projection_of, projection_text

    known = participants(shown)
    if participant not in known:
        raise NotFound(
            f"{participant!r} takes no part in {shown.name}",
            remedy=f"There are: {', '.join(known) or 'none'}",
            participant=participant,
        )
    projection = projection_of(shown, participant)
    if as_json:
        print_json({"projection": projection})
    else:
        print_line(projection_text(projection).rstrip("\n"))


def _print_plan(shown: Plan) -> None:
    from minuet.observe.planview import lines

    print_line(f"{paint(escaped(shown.name), 'strong')}  {escaped(shown.style)}")
    services = shown.services()
    print_line(f"services: {', '.join(f'{s} ({len(a)})' for s, a in sorted(services.items()))}")
    print_line()
    print_table(
        ("POSITION", "WHAT", "UNDONE BY", "NOTES", "WAITS FOR", "WHERE"),
        ((x.position, "  " * x.depth + x.what, x.undo, x.notes, x.waits_for, x.place) for x in lines(shown)),
    )
