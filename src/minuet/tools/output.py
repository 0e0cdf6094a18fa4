"""What a person or a script reads: text, tables, JSON, colour, errors, exit codes.

What was asked for goes to stdout; remarks, questions and errors go to stderr. Whatever comes from data is escaped on
its way to a terminal: a key may hold anything, and a terminal obeys what it is sent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, TextIO

import msgspec

from minuet.errors import (
    Conflict,
    DeclarationError,
    InvalidPayload,
    MinuetError,
    MissingExtra,
    NotFound,
    NotRunning,
    SettingsError,
    WorkflowRefused,
)
from minuet.observe.text import columns, escaped

FORMAT: Final = 1
"""The version of what `--json` prints."""

__all__ = [
    "Exit", "age_text", "escaped", "exit_code", "paint", "print_error", "print_json", "print_line", "print_table",
    "remark", "state_text", "time_text", "value_text",
]  # fmt: skip


class Exit(IntEnum):
    """The exit codes of every verb."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4


_EXITS: Final[Mapping[type[MinuetError], Exit]] = {
    SettingsError: Exit.USAGE,
    MissingExtra: Exit.USAGE,
    DeclarationError: Exit.USAGE,
    WorkflowRefused: Exit.USAGE,
    InvalidPayload: Exit.USAGE,
    NotFound: Exit.NOT_FOUND,
    NotRunning: Exit.NOT_FOUND,
    Conflict: Exit.CONFLICT,
    MinuetError: Exit.FAILED,
}

_COLOURS: Final[Mapping[str, int]] = {"good": 32, "bad": 31, "odd": 33, "faint": 2, "strong": 1}
_TONES: Final[Mapping[str, str]] = {
    "completed": "good",
    "ok": "good",
    "running": "strong",
    "compensating": "odd",
    "compensated": "odd",
    "terminated": "odd",
    "stuck": "bad",
    "quarantined": "bad",
}


def exit_code(error: MinuetError) -> Exit:
    """Give the exit code of an error: of its own class, or the nearest ancestor's."""
    return next(_EXITS[kind] for kind in type(error).__mro__ if kind in _EXITS)


def value_text(value: Any, *, longest: int = 0) -> str:
    """Give JSON data as one line of text; cut, with a mark, beyond so many characters."""
    text = escaped(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))
    return text if not longest or len(text) <= longest else text[: longest - 1] + "…"


def print_line(text: str = "", *, to: TextIO | None = None) -> None:
    """Print a line of what was asked for."""
    stream = to or sys.stdout
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:  # a terminal that is not UTF-8 shows what it can
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def remark(text: str) -> None:
    """Print a line for people, beside what was asked for."""
    print_line(text, to=sys.stderr)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one object, with the version of its form."""
    plain = msgspec.to_builtins(dict(content))
    print_line(json.dumps({"format": FORMAT, **plain}, ensure_ascii=True))


def print_error(error: MinuetError, *, as_json: bool) -> None:
    """Say what went wrong and what to do about it."""
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "remedy": error.remedy}})
        return
    if isinstance(error, WorkflowRefused):
        codes = sorted({finding.code for finding in error.findings})
        remark(f"{paint('error:', 'bad', sys.stderr)} {len(error.findings)} in what is to be a workflow")
        for line in error.message.split("\n"):
            remark(escaped(line))
        remark(f"-> {'; '.join('minuet explain ' + code for code in codes)}")
        return
    remark(f"{paint('error:', 'bad', sys.stderr)} {escaped(error.message)}")
    if error.remedy:
        remark(f"-> {escaped(error.remedy)}")


def paint(text: str, tone: str, stream: TextIO | None = None) -> str:
    """Give text in a colour, where there are colours: on a terminal, unless NO_COLOR is set."""
    stream = stream or sys.stdout
    colour = _COLOURS.get(tone)
    if colour is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def state_text(state: str) -> str:
    """Give a state or a label in its colour."""
    return paint(escaped(state), _TONES.get(state, "bad" if state.startswith("rejected") else ""))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, stated: int | None = None) -> None:
    """Print rows in columns; cells are escaped; `stated` is the column that is coloured as a state."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    lines = [list(headers), *cells] if headers else cells
    if not lines:
        return
    widths = [max(columns(line[i]) for line in lines) for i in range(len(lines[0]))]
    for n, line in enumerate(lines):
        is_header = bool(headers) and n == 0
        shown = []
        for i, cell in enumerate(line):
            padded = cell + " " * (widths[i] - columns(cell)) if i < len(line) - 1 else cell
            shown.append(
                padded.replace(cell, state_text(cell), 1) if i == stated and cell and not is_header else padded
            )
        print_line(paint("  ".join(shown).rstrip(), "faint" if is_header else ""))


def age_text(span_ms: int) -> str:
    """Give a length of time in its largest unit: `41 ms`, `4 s`, `2 min`, `1 h`, `3 d`."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if span_ms >= length:
            return f"{span_ms // length} {unit}"
    return f"{max(0, span_ms)} ms"


def time_text(at_ms: int, now_ms: int) -> str:
    """Give an instant in the reader's zone: the time of today, with the date of another day."""
    at, now = (datetime.fromtimestamp(ms / 1_000).astimezone() for ms in (at_ms, now_ms))
    pattern = "%H:%M:%S" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S"
    return f"{at.strftime(pattern)}.{at_ms % 1_000:03}"
