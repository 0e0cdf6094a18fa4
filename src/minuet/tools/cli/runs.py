"""`minuet start`, `runs` and `show`: runs, as a user begins and sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import click

from minuet.tools.cli.json_input import read_input
from minuet.tools.cli.naming import named
from minuet.tools.cli.reach import Place, perform, reach, reaching
from minuet.tools.output import Exit, escaped, print_json, print_line, print_table, remark, state_text, value_text
from minuet.tools.output import age_text as age

if TYPE_CHECKING:
    from minuet.runtime.control import Control
    from minuet.runtime.view import RunView
    from minuet.tools.story import Form, Picture

FOLLOW_S = 0.5
WIDTH = 120  # columns of a picture in text, where nobody says how wide the terminal is
_PARKED = ("stuck", "quarantined")


@click.command()
@click.argument("workflow")
@click.option("--input", "input_", metavar="JSON", help="JSON, @FILE, or - for stdin.")
@click.option("--key", help="The business key; the same again gives the same run.")
@click.option("--wait", is_flag=True, help="Wait until it has ended, or is parked.")
@click.option("--timeout", metavar="DURATION", help="How long to wait, as 30s; for ever by default.")
@click.option("--again", is_flag=True, help="A new run, where the one of this key has ended.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def start(
    *,
    place: Place,
    workflow: str,
    input_: str | None,
    key: str | None,
    wait: bool,
    timeout: str | None,
    again: bool,
    as_json: bool,
) -> None:
    """Start a run of a workflow."""
    raw = None if input_ is None else read_input(input_)
    timeout_s = None if timeout is None else _milliseconds(timeout, "--timeout") / 1_000

    async def starting() -> tuple[RunView, bool]:
        async with reach(place, changing=True) as control:
            view, is_new = await control.start(workflow, raw, key=key, again=again)
            if wait:
                from minuet.tools.progress import waiting_line

                async with waiting_line(control, view.run):
                    view = await control.wait(view.run, timeout_s)
            return view, is_new

    view, is_new = perform(starting())
    if as_json:
        print_json({"run": view, "is_new": is_new})
    else:
        print_line(run_line(view) + ("" if is_new else "  (was there already)"))
    if wait and view.state != "completed":
        raise click.exceptions.Exit(Exit.FAILED)


@click.command()
@click.option("--state", "states", multiple=True, help="Several times for several.")
@click.option("--workflow", help="Only of this workflow.")
@click.option("--key", help="Only of this business key.")
@click.option("--since", metavar="DURATION", help="Begun within the last 1h, 30m, 7d.")
@click.option("--stuck", is_flag=True, help="Only what needs a person.")
@click.option("--late", is_flag=True, help="Only what waits longer than is usual.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@click.option("--before", metavar="RUN", help="The page after this run.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def runs(
    *,
    place: Place,
    states: tuple[str, ...],
    workflow: str | None,
    key: str | None,
    since: str | None,
    stuck: bool,
    late: bool,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    from minuet.runtime.clock import SystemClock

    _check_states(states)
    now_ms = SystemClock().now_ms()
    since_ms = None if since is None else max(0, now_ms - _milliseconds(since, "--since"))

    async def listing() -> list[RunView]:
        async with reach(place) as control:
            return await control.runs(
                states=states + (_PARKED if stuck else ()),
                workflow=workflow,
                key=key,
                since_ms=since_ms,
                before=before,
                limit=limit,
                late=late,
            )

    found = perform(listing())
    more = found[-1].run if len(found) == limit else None
    if as_json:
        print_json({"runs": found, "next": more})
        return
    if not found:
        remark("no runs" + (" that fit" if states or workflow or key or since or stuck or late or before else " yet"))
        return
    print_table(
        ("RUN", "KEY", "WORKFLOW", "STYLE", "STATE", "AT", "AGE"),
        (
            (
                view.run,
                "" if view.key == view.run else view.key,
                f"{view.workflow}@{view.digest[:8]}",
                view.style,
                view.state + (" paused" if view.paused else "") + (" dirty" if view.dirty else "") + _late(view),
                view.at,
                age(now_ms - view.started_at_ms),
            )
            for view in found
        ),
        stated=4,
    )
    if more:
        remark(f"there may be more: --before {more}")


@click.command(short_help="Show one run: what happened, what it waits for.")
@click.argument("words", nargs=-1, metavar="[RUN|WORKFLOW]")
@click.option("--key", help="The newest run of this business key.")
@click.option("--facts", "with_facts", is_flag=True, help="Each fact, with its value.")
@click.option("--sequence", is_flag=True, help="Who told what to whom: messages between participants.")
@click.option("--timeline", is_flag=True, help="Where time went: a bar for each step.")
@click.option("--causes", is_flag=True, help="What caused what.")
@click.option(
    "--format", "form", type=click.Choice(["text", "mermaid", "svg"]), help="Of --sequence, --timeline, --causes."
)
@click.option("--follow", is_flag=True, help="Go on until it has ended, or is parked.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs; one a line with --follow.")
@reaching
def show(
    *,
    place: Place,
    words: tuple[str, ...],
    key: str | None,
    with_facts: bool,
    sequence: bool,
    timeline: bool,
    causes: bool,
    form: Form | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show one run: what happened, and what it waits for, since when, from whom.

    A run is named by its id, or as [WORKFLOW] --key KEY. It can be drawn: as messages between its participants, as
    bars over time, as a tree of causes; as text, as Mermaid, or as SVG.
    """
    if len(words) > 1:
        raise click.UsageError("Name one run: RUN, or [WORKFLOW] --key KEY.")
    picture = _picture({"sequence": sequence, "timeline": timeline, "causes": causes})
    if picture is not None:
        for option, is_given in (("--facts", with_facts), ("--follow", follow), ("--json", as_json)):
            if is_given:
                raise click.UsageError(f"--{picture} is a picture, and does not go with {option}.")
    elif form is not None:
        raise click.UsageError("--format goes with --sequence, --timeline or --causes.")
    name = named((), key, words[0] if words else None) if key is not None else named(words, None, None)

    async def showing() -> None:
        async with reach(place) as control:
            run = await name.find(control)
            if picture is not None:
                await _print_picture(control, run, picture, form or "text")
                return
            if follow:
                await _follow(control, run, with_facts=with_facts, as_json=as_json)
                return
            _print_run(await control.show(run), with_facts=with_facts, as_json=as_json)

    perform(showing())


def run_line(view: RunView) -> str:
    """Say in one line what became of a run."""
    parts = [f"run {view.run}", f"{view.workflow}@{view.digest[:8]}", view.style, state_text(view.state)]
    if view.ended_at_ms is not None:
        parts[-1] += f" in {age(view.ended_at_ms - view.started_at_ms)}"
    if view.state == "completed" and view.result is not None:
        parts.append(value_text(view.result))
    if view.rejection is not None:
        said = f": {view.rejection.message}" if view.rejection.message else ""
        parts.append(f"{view.rejection.code} at {view.rejection.position}{said}")
    if view.reason:
        parts.append(view.reason)
    elif view.at:
        parts.append(f"at {view.at}")
    return "  ".join(part if part.startswith("\x1b") else escaped(part) for part in parts if part)


def _picture(asked: Mapping[Picture, bool]) -> Picture | None:
    """Give the picture that is asked for; None where none is.

    Raises:
        click.UsageError: more than one.
    """
    found = [name for name, is_asked in asked.items() if is_asked]
    if len(found) > 1:
        raise click.UsageError(f"Give one of {', '.join(f'--{name}' for name in found)}: one picture at a time.")
    return found[0] if found else None


async def _print_picture(control: Control, run: str, picture: Picture, form: Form) -> None:
    from shutil import get_terminal_size

    from minuet.plans.plan import load_plan
    from minuet.runtime.clock import SystemClock
    from minuet.tools.story import drawn, header

    view = await control.show(run)
    plan = load_plan(await control.plan(view.digest))
    now_ms = SystemClock().now_ms()
    width = get_terminal_size((WIDTH, 24)).columns
    if form == "text":
        for line in header(view, now_ms):
            print_line(line)
    print_line(drawn(view, plan, picture, form, now_ms=now_ms, width=width).rstrip("\n"))


def _print_run(view: RunView, *, with_facts: bool, as_json: bool, known: int = 0) -> None:
    """Print a run; facts up to number `known` have been printed before."""
    from minuet.runtime.clock import SystemClock
    from minuet.tools.story import fact_rows, header, waiting_rows

    if as_json:
        print_json({"run": view})
        return
    now_ms = SystemClock().now_ms()
    if not known:
        for line in header(view, now_ms):
            print_line(line)
    facts = [f for f in view.facts if f.seq > known]
    print_table(
        (),
        fact_rows(facts, now_ms, with_values=with_facts) + waiting_rows(view.waiting, now_ms, with_values=with_facts),
        stated=2,
    )


async def _follow(control: Control, run: str, *, with_facts: bool, as_json: bool) -> None:
    known = 0
    async for view in _changes(control, run):
        _print_run(view, with_facts=with_facts, as_json=as_json, known=known)
        known = view.facts[-1].seq if view.facts else known
        if not as_json and _is_settled(view):
            print_line(run_line(view))


async def _changes(control: Control, run: str) -> AsyncIterator[RunView]:
    """Give a run whenever something of it has changed, until it is settled."""
    before: tuple[object, ...] | None = None
    while True:
        view = await control.show(run)
        now = (len(view.facts), view.state, view.at, view.paused)
        if now != before:
            before = now
            yield view
        if _is_settled(view):
            return
        await asyncio.sleep(FOLLOW_S)


def _late(view: RunView) -> str:
    return " late" if any(w.late for w in view.waiting) else ""


def _is_settled(view: RunView) -> bool:
    return view.ended_at_ms is not None or view.state in _PARKED


def _milliseconds(text: str, option: str) -> int:
    from minuet.runtime.settings import duration_ms

    try:
        return duration_ms(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def _check_states(states: tuple[str, ...]) -> None:
    from minuet.engine.row import RunState

    known = [state.value for state in RunState]
    for state in states:
        if state not in known:
            raise click.BadParameter(f"{state!r} is none of {', '.join(known)}.", param_hint="--state")
