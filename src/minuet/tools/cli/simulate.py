"""`minuet simulate`: a workflow in many simulated worlds, in which goes wrong what can."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minuet.errors import DeclarationError, InvalidPayload, NotFound
from minuet.tools.cli.json_input import read_input
from minuet.tools.output import Exit, print_json, print_line, remark

if TYPE_CHECKING:
    from minuet.runtime.app import App
    from minuet.testing.simulating import Search, Simulation
    from minuet.testing.simulation.report import Failure, Report

CANCELLED = 0.3  # the share of worlds in which somebody cancels


@click.command(short_help="Try a workflow in worlds where things go wrong.")
@click.argument("workflow")
@click.option("--app", "app_name", metavar="MODULE:APP", help="The program; by default the one of the settings.")
@click.option("--input", "input_", metavar="JSON", help="JSON, @FILE, or - for stdin.")
@click.option(
    "--event", "events", nargs=3, multiple=True, metavar="TYPE KEY JSON", help="An event that comes; may be repeated."
)
@click.option("--seeds", default=100, show_default=True, type=click.IntRange(1), help="How many worlds.")
@click.option("--seed", type=int, help="Repeat this one.")
@click.option("--styles", default="orchestration,choreography", show_default=True, help="With commas; also: hybrid.")
@click.option("--faults", default="all", show_default=True, help="all, none, or names: crash,duplicate=0.5.")
@click.option("--only", help="With --seed: of all that went wrong only this, as crash#2,delay#1; or none.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep failures in this folder.")
@click.option("--mermaid", is_flag=True, help="Print the shortest failing story as a Mermaid diagram instead.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@click.pass_context
def simulate(
    context: click.Context,
    *,
    workflow: str,
    app_name: str | None,
    input_: str | None,
    events: tuple[tuple[str, str, str], ...],
    seeds: int,
    seed: int | None,
    styles: str,
    faults: str,
    only: str | None,
    keep: Path | None,
    mermaid: bool,
    as_json: bool,
) -> None:
    """Perform a workflow in many simulated worlds, in which goes wrong what can.

    Each world has one seed, which says what goes wrong and when: processes crash, commits are lost, messages come late,
    twice, in another order. Nothing of this program may reach the real world: give it services that do not try to.
    """
    from minuet.testing.simulating import Search, layouts_of
    from minuet.testing.simulation.faults import Faults
    from minuet.testing.simulation.report import report_json, report_text, story_mermaid

    if only is not None and seed is None:
        raise click.UsageError("--only goes with --seed.")
    app = _app(context.obj, app_name)
    flow = app.workflows.get(workflow)
    if flow is None:
        raise NotFound(f"there is no workflow {workflow!r}", remedy=f"Known here: {', '.join(sorted(app.workflows))}")
    body = _body(app, workflow, None if input_ is None else read_input(input_), events)
    rates = replace(Faults.parse(faults), call_lost=0.0, reply_lost=0.0)  # there is no world outside
    search = Search([flow], app, body, layouts_of([flow], styles.split(",")), rates, name=workflow)
    said = _said(workflow, app_name, input_, events, styles, faults)

    def repeats(failure: Failure) -> str:
        chosen = "" if failure.only is None else f" --only {','.join(failure.only) or 'none'}"
        return f"{said} --seed {failure.seed}{chosen}"

    report = _searched(search, seeds, seed, only, keep)
    if as_json:
        print_json({"simulation": report_json(report, repeats=repeats)})
    elif mermaid:
        print_line(story_mermaid(report.smallest.verdict.story).rstrip() if report.smallest is not None else "")
    else:
        print_line(report_text(report, repeats=repeats, faults=rates if seed is None else None).rstrip())
    if not report.is_clean:
        raise click.exceptions.Exit(Exit.FAILED)


def _searched(search: Search, seeds: int, seed: int | None, only: str | None, keep: Path | None) -> Report:
    from minuet.testing.simulation.report import Failure, Report
    from minuet.tools.progress import Bar

    if only is not None:
        assert seed is not None
        names = tuple(name for name in only.split(",") if name not in ("", "none"))
        verdict = search.verdict(seed, names)
        report = Report(name=search.name)
        report.add(verdict)
        if verdict.violations:
            report.failures.append(Failure.of(verdict, search.faults, only=names, tried=1))
        return report
    tried = range(seeds) if seed is None else [seed]
    bar = Bar("simulating", len(tried))
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # what services print
        try:
            report = search.report(tried, 3, on_progress=lambda r: bar.show(r.worlds, _found(r)), keep=keep)
        finally:
            bar.close()
    if report.is_interrupted:
        remark("interrupted: this is what there is")
    return report


def _found(report: Report) -> str:
    n = len(report.failures)
    return f"{n} failing" if n else ""


def _app(app: App | None, name: str | None) -> App:
    from minuet.runtime.settings import load_settings
    from minuet.tools.loading import load_app

    if app is not None and name is None:
        return app
    if (name := name or load_settings().app) is None:
        raise DeclarationError(
            "no app is named", remedy='Name it: --app MODULE:APP, or app = "MODULE:APP" in minuet.toml'
        )
    return load_app(name)


def _body(
    app: App, workflow: str, raw: bytes | None, events: tuple[tuple[str, str, str], ...]
) -> Callable[[Simulation], Any]:
    from minuet.contracts.codec import codec_for

    flow = app.workflows[workflow]
    if flow.tree.input is not None and raw is None:
        raise InvalidPayload(f"{workflow} takes an input", remedy="Give it: --input JSON")
    input_ = None if flow.tree.input is None else codec_for(flow.input_type).decode(raw or b"null")
    told: list[tuple[Any, str]] = []
    for name, key, data in events:
        if name not in app.events:
            known = ", ".join(sorted(app.events)) or "none"
            raise NotFound(f"there is no event type {name!r}", remedy=f"Known here: {known}")
        told.append((codec_for(app.events[name]).decode(read_input(data)), key))

    async def body(sim: Simulation) -> None:
        run = await sim.start(flow, input_)
        if sim.world.chance.stream("scenario").random() < CANCELLED:
            sim.cancel_somewhere(run)
        for event, key in told:
            await sim.send(event, key=key)

    return body


def _said(
    workflow: str,
    app_name: str | None,
    input_: str | None,
    events: tuple[tuple[str, str, str], ...],
    styles: str,
    faults: str,
) -> str:
    """Give the command line as it was said, without the seeds."""
    words = ["minuet", "simulate", workflow]
    words += ["--app", app_name] if app_name is not None else []
    words += ["--input", input_] if input_ is not None else []
    for event in events:
        words += ["--event", *event]
    words += ["--styles", styles] if styles != "orchestration,choreography" else []
    words += ["--faults", faults] if faults != "all" else []
    return shlex.join(words)
