"""`minuet failed`: what is parked and waits for a person; and what may be done about dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from minuet.tools.cli.json_input import read_input
from minuet.tools.cli.reach import Place, perform, reach, reaching, who
from minuet.tools.output import age_text, escaped, print_json, print_line, print_table, remark, time_text

if TYPE_CHECKING:
    from minuet.runtime.letters import LetterChoice, Letters
    from minuet.runtime.view import Acknowledged, DeadLetterView, FailedView

    Act = Callable[[Letters, LetterChoice], Awaitable[Acknowledged]]


@click.group(invoke_without_command=True)
@click.pass_context
def failed(context: click.Context) -> None:
    """List what is parked, and mend dead letters."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@failed.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--group", "grouped", is_flag=True, help="One line for each cause.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def list_(*, place: Place, limit: int = 100, grouped: bool = False, as_json: bool = False) -> None:
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
    if grouped:
        _print_groups(found, now_ms)
    else:
        _print_list(found, now_ms)
    print_line()
    if any(not f.id for f in found):
        remark("Take a run up again: minuet retry RUN [POSITION]")
    if any(f.id for f in found):
        remark("Take a dead letter up again: minuet failed retry ID, or --fingerprint F for all of one cause")


def _print_list(found: list[FailedView], now_ms: int) -> None:
    print_table(
        ("RUN", "KEY", "WHAT", "WHERE", "WHY", "ATTEMPTS", "FOR"),
        (
            (
                f.run or f.id or "-",
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


def _print_groups(found: list[FailedView], now_ms: int) -> None:
    groups: dict[tuple[str, str, str], list[FailedView]] = {}
    for f in found:
        where = " ".join(part for part in (f.workflow, f.position) if part)
        groups.setdefault((f.kind, where, f.fingerprint or f.reason), []).append(f)
    print_table(
        ("COUNT", "FINGERPRINT", "WHAT", "WHERE", "WHY", "FOR"),
        (
            (
                str(len(several)),
                several[0].fingerprint or "-",
                kind,
                where,
                several[0].reason,
                age_text(now_ms - min(f.first_at_ms for f in several)),
            )
            for (kind, where, _), several in groups.items()
        ),
    )


@failed.command()
@click.argument("letter", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def show(*, place: Place, letter: str, as_json: bool) -> None:
    """Show one dead letter: its data, every attempt, and what caused it."""

    async def showing() -> DeadLetterView:
        async with reach(place) as control:
            return await control.letters.dead_letter(letter)

    x = perform(showing())
    if as_json:
        print_json({"dead_letter": x})
        return
    import msgspec

    from minuet.runtime.clock import SystemClock

    now_ms = SystemClock().now_ms()

    lines = [
        (x.id, f"{x.state}: {x.reason}"),
        ("event", f"{x.event} v{x.version}, key {x.key}"),
        ("from", f"{x.source}, {x.message}"),
        ("published", time_text(x.published_at_ms, now_ms)),
        ("fingerprint", x.fingerprint),
        ("data", msgspec.json.encode(x.data).decode() + (" (corrected)" if x.is_edited else "")),
        *(("caused by", cause) for cause in x.causes),
        *((f"attempt {n}", f"{time_text(a.at_ms, now_ms)}  {a.error}") for n, a in enumerate(x.attempts, start=1)),
    ]
    for name, text in lines:
        print_line(f"{escaped(name)}  {escaped(text)}")


def choosing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb what says which dead letters are meant."""
    for option in (
        reaching,
        click.option("--json", "as_json", is_flag=True, help="One object for programs."),
        click.option("--all", "everything", is_flag=True, help="All dead letters."),
        click.option("--fingerprint", help="All of one cause."),
        click.option("--reason", help="All with this reason."),
        click.option("--subscription", help="All of one reaction: service.reaction."),
        click.argument("letters", nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


note_option = click.option("--note", help="Why; kept in the audit.")
required_note = click.option("--note", required=True, help="Why; kept in the audit.")


@failed.command()
@choosing
@note_option
def retry(*, place: Place, note: str | None, as_json: bool, **chosen: Any) -> None:
    """Take dead letters up again, now."""
    _act(place, _choice(**chosen), lambda x, which: x.retry(which, who=who(), note=note), as_json=as_json)


@failed.command()
@click.argument("letter", metavar="ID")
@click.option("--data", required=True, metavar="JSON", help="The corrected data: JSON, @FILE, or -.")
@required_note
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@reaching
def edit(*, place: Place, letter: str, data: str, note: str, as_json: bool) -> None:
    """Correct the data of one dead letter, and take it up again."""
    raw = read_input(data)
    _act(
        place,
        _choice((letter,)),
        lambda x, _: x.edit(letter, raw, who=who(), note=note),
        as_json=as_json,
    )


@failed.command()
@choosing
@note_option
def skip(*, place: Place, note: str | None, as_json: bool, **chosen: Any) -> None:
    """Let the keys go on that dead letters hold up; they stay on the list."""
    _act(place, _choice(**chosen), lambda x, which: x.skip(which, who=who(), note=note), as_json=as_json)


@failed.command()
@choosing
@required_note
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(*, place: Place, note: str, yes: bool, as_json: bool, **chosen: Any) -> None:
    """Give dead letters up for good. Asks first."""
    choice = _choice(**chosen)
    if not yes:
        click.confirm("Discard them? They will never be applied.", abort=True, err=True)
    _act(place, choice, lambda x, which: x.discard(which, who=who(), note=note), as_json=as_json)


def _choice(
    letters: tuple[str, ...],
    *,
    subscription: str | None = None,
    reason: str | None = None,
    fingerprint: str | None = None,
    everything: bool = False,
) -> LetterChoice:
    """Read which dead letters are meant.

    Raises:
        click.UsageError: none, or in two ways.
    """
    from minuet.runtime.letters import LetterChoice

    by_kind = [x for x in (subscription, reason, fingerprint) if x is not None]
    if bool(letters) + bool(by_kind) + everything != 1:
        raise click.UsageError("Name dead letters by ID, by --subscription, --reason, --fingerprint, or take --all.")
    return LetterChoice(
        ids=letters, subscription=subscription, reason=reason, fingerprint=fingerprint, everything=everything
    )


def _act(place: Place, choice: LetterChoice, act: Act, *, as_json: bool) -> None:
    async def acting() -> Acknowledged:
        async with reach(place, changing=True) as control:
            return await act(control.letters, choice)

    said = perform(acting())
    if as_json:
        print_json({"outcome": said.outcome, "message": said.message})
    else:
        print_line(escaped(said.message))
