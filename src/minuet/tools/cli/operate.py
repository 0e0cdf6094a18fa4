"""What an operator does to a run: cancel, terminate, pause, resume, retry, resolve, skip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from minuet.tools.cli.json_input import read_input
from minuet.tools.cli.naming import RunName, key_option, named, workflow_option
from minuet.tools.cli.reach import Place, perform, reach, reaching, who
from minuet.tools.output import escaped, print_json, print_line

if TYPE_CHECKING:
    from minuet.runtime.control import Control
    from minuet.runtime.view import Acknowledged

Act = Callable[["Control", str], Awaitable["Acknowledged"]]


def of_run(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a verb what all of these take: the run, a note, where the program is."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            reaching,
            click.option("--json", "as_json", is_flag=True, help="One object for programs."),
            workflow_option,
            key_option,
            click.argument("words", nargs=-1, metavar=words),
        ):
            command = option(command)
        return command

    return decorate


note_option = click.option("--note", help="Why; kept in the audit.")
required_note = click.option("--note", required=True, help="Why; kept in the audit.")


@click.command(short_help="Ask for a cancellation; what was done is undone.")
@of_run("[RUN]")
@note_option
def cancel(
    *, place: Place, words: tuple[str, ...], key: str | None, workflow: str | None, note: str | None, as_json: bool
) -> None:
    """Ask for a cancellation: what was done is compensated, up to the pivot."""
    _operate(place, named(words, key, workflow), lambda c, run: c.cancel(run, who=who(), note=note), as_json=as_json)


@click.command(short_help="End a run at once; nothing is undone.")
@of_run("[RUN]")
@note_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def terminate(
    *,
    place: Place,
    words: tuple[str, ...],
    key: str | None,
    workflow: str | None,
    note: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """End a run at once; nothing is compensated. Asks first."""
    name = named(words, key, workflow)
    if not yes:
        shown = escaped(name.run or f"of key {key}")
        click.confirm(f"Terminate run {shown}? Nothing of it will be compensated.", abort=True, err=True)
    _operate(place, name, lambda c, run: c.terminate(run, who=who(), note=note), as_json=as_json)


@click.command()
@of_run("[RUN]")
@note_option
def pause(
    *, place: Place, words: tuple[str, ...], key: str | None, workflow: str | None, note: str | None, as_json: bool
) -> None:
    """Let a run begin nothing new."""
    _operate(place, named(words, key, workflow), lambda c, run: c.pause(run, who=who(), note=note), as_json=as_json)


@click.command()
@of_run("[RUN]")
@note_option
def resume(
    *, place: Place, words: tuple[str, ...], key: str | None, workflow: str | None, note: str | None, as_json: bool
) -> None:
    """Let a paused run go on."""
    _operate(place, named(words, key, workflow), lambda c, run: c.resume(run, who=who(), note=note), as_json=as_json)


@click.command(short_help="Take up what is parked, now.")
@of_run("[RUN] [POSITION]")
@note_option
def retry(
    *, place: Place, words: tuple[str, ...], key: str | None, workflow: str | None, note: str | None, as_json: bool
) -> None:
    """Take up what is parked or waits for its next attempt, now."""
    runs, position = (words, None) if len(words) + (key is not None) < 2 else (words[:-1], words[-1])
    _operate(
        place,
        named(runs, key, workflow),
        lambda c, run: c.retry(run, position, who=who(), note=note),
        as_json=as_json,
    )


@click.command(short_help="Record what was done by hand.")
@of_run("[RUN] POSITION")
@required_note
@click.option("--result", metavar="JSON", help="What the action would have given: JSON, @FILE, or -.")
@click.option("--reject", metavar="CODE", help="The declared code with which it is rejected.")
def resolve(
    *,
    place: Place,
    words: tuple[str, ...],
    key: str | None,
    workflow: str | None,
    note: str,
    result: str | None,
    reject: str | None,
    as_json: bool,
) -> None:
    """Record what was done by hand at a position; a compensation needs neither --result nor --reject."""
    if result is not None and reject is not None:
        raise click.UsageError("Give --result or --reject, not both.")
    name, position = _with_position(words, key, workflow)
    raw = None if result is None else read_input(result)
    _operate(
        place,
        name,
        lambda c, run: c.resolve(run, position, result=raw, reject=reject, who=who(), note=note),
        as_json=as_json,
    )


@click.command(short_help="Record a compensation as done although it is not.")
@of_run("[RUN] POSITION")
@required_note
def skip(
    *, place: Place, words: tuple[str, ...], key: str | None, workflow: str | None, note: str, as_json: bool
) -> None:
    """Record a compensation as done although it is not; the run is listed as dirty."""
    name, position = _with_position(words, key, workflow)
    _operate(place, name, lambda c, run: c.skip(run, position, who=who(), note=note), as_json=as_json)


def _with_position(words: tuple[str, ...], key: str | None, workflow: str | None) -> tuple[RunName, str]:
    if not words:
        raise click.UsageError("Name the position, as `minuet show` does: 2a.")
    return named(words[:-1], key, workflow), words[-1]


def _operate(place: Place, name: RunName, act: Act, *, as_json: bool) -> None:
    async def operating() -> tuple[str, Acknowledged]:
        async with reach(place, changing=True) as control:
            run = await name.find(control)
            return run, await act(control, run)

    run, said = perform(operating())
    if as_json:
        print_json({"run": run, "outcome": said.outcome, "message": said.message})
    else:
        print_line(f"run {escaped(run)}  {escaped(said.outcome)}: {escaped(said.message)}")
