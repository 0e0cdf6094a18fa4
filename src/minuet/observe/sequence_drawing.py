"""A sequence of messages as text, as Mermaid, as SVG: a column a participant, commands solid, events dashed."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import Final

from minuet.observe import picture
from minuet.observe.sequence import Message, Sequence
from minuet.observe.text import columns, cut, escaped, span

_ROW: Final = 34.0
_COLUMN: Final = 120.0
_HEAD: Final = 26.0
_SAID_MIN: Final = 24  # columns of what is said, however many participants there are


def sequence_text(sequence: Sequence, width: int = 120) -> str:
    """Give a sequence as lines of at most `width` columns: when, what, and an arrow over the participants' lines.

    Where the names of the participants do not fit, they are numbered, and a line says who has which number.
    """
    names = [escaped(name) for name in sequence.participants]
    times = [_time(m) for m in sequence.messages]  # all plain ASCII, or one column
    said = [escaped(_said(m)) for m in sequence.messages]
    first = max(map(columns, ["AFTER", *times]))
    room = width - first - 2
    legend: list[str] = []
    if room - sum(columns(name) + 2 for name in names) < _SAID_MIN:
        legend = wrap(", ".join(f"{n} {name}" for n, name in enumerate(names, 1)), max(width, _SAID_MIN))
        names = [f"{n:^3}" for n in range(1, len(names) + 1)]
    grid = sum(columns(name) + 2 for name in names)
    longest = max(_SAID_MIN, min(room - grid, max(map(columns, said), default=0) + 2))
    middles, x = [], 0
    for name in names:
        middles.append(x + (columns(name) + 2) // 2)
        x += columns(name) + 2
    lines = [*legend, f"{'AFTER':{first}}  {'WHAT':{longest}}" + "".join(f" {name} " for name in names).rstrip()]
    at = dict(zip(sequence.participants, middles, strict=True))
    for m, time, text in zip(sequence.messages, times, said, strict=True):
        shown = cut(text, longest - 1)
        row = _row(m, at, middles, x)
        lines.append(f"{time:{first}}  {shown}{' ' * (longest - columns(shown))}{row}".rstrip())
    lines += [cut(line, width) for line in _coming(sequence.messages)]
    return "\n".join(lines) + "\n"


def sequence_mermaid(sequence: Sequence) -> str:
    """Give a sequence as a Mermaid sequence diagram."""
    names = {name: f"p{n}" for n, name in enumerate(sequence.participants)}
    lines = ["---", f"title: {picture.quoted(sequence.title)}", "---", "sequenceDiagram"]
    lines += [f"    participant {short} as {picture.entities(name)}" for name, short in names.items()]
    shown, left_out = picture.folded(sequence.messages)
    for n, m in enumerate(shown):
        if left_out and n == len(shown) // 2:
            lines.append(f"    Note over {names[m.sender]}: {left_out} more are not drawn")
        said = picture.entities(_said(m, whole=True))
        if not m.is_message:
            lines.append(f"    Note over {names[m.sender]}: {said}")
        lines += [f"    {names[m.sender]}{_ARROWS[m.kind]}{names[r]}: {said}" for r in m.receivers]
    return "\n".join(lines) + "\n"


def sequence_svg(sequence: Sequence, *, is_alone: bool = True) -> str:
    """Give a sequence as SVG; `is_alone`: with its style, for a file of its own."""
    shown, left_out = picture.folded(sequence.messages)
    first = max((columns(_time(m)) for m in shown), default=0) * picture.LETTER + 2 * picture.PAD
    xs = _columns(sequence.participants, shown, first)
    top = picture.TOP + _HEAD
    bottom = top + (len(shown) + bool(left_out)) * _ROW + picture.PAD
    width = max(xs.values()) + _COLUMN / 2 + picture.PAD
    parts = [_participant(name, x, bottom) for name, x in xs.items()]
    y = top
    for i, m in enumerate(shown):
        if left_out and i == len(shown) // 2:
            y += _ROW
            parts.append(picture.label(picture.PAD, y, f"{left_out} more are not drawn", "faint"))
        y += _ROW
        parts.append(picture.label(picture.PAD, y, _time(m), "faint"))
        parts.append(_arrow(m, xs, y) if m.is_message else _note(m, xs[m.sender], y))
        if not m.is_message:
            width = max(
                width, xs[m.sender] + columns(cut(_said(m), picture.LONGEST)) * picture.LETTER + 4 * picture.PAD
            )
    width = max(width, picture.heading(sequence.title))
    told = "; ".join(_told(m) for m in shown)
    return picture.document(sequence.title, told, width, bottom + picture.PAD, parts, is_alone=is_alone)


_ARROWS: Final = {
    "start": "->>",
    "command": "->>",
    "end": "->>",
    "event": "-->>",
    "mark": "-->>",
    "note": "-->>",
    "coming": "--)",
}
_LINES: Final = {"start": "─", "command": "─", "end": "─", "event": "╌", "mark": "╌", "note": " ", "coming": "┈"}


def _said(m: Message, *, whole: bool = False) -> str:
    if m.kind == "coming":
        return f"… {m.text}" + (f" ({m.detail})" if whole else "")
    return f"✗ {m.text}" if m.label.startswith(("rejected", "failed")) else m.text


def _told(m: Message) -> str:
    to = f" to {', '.join(m.receivers)}" if m.receivers else ""
    return f"{_time(m)} {m.sender}{to}: {_said(m, whole=True)}"


def _time(m: Message) -> str:
    return "…" if m.kind == "coming" else f"+{span(m.after_ms)}"


def _coming(messages: Iterable[Message]) -> list[str]:
    return [escaped(f"… {m.text}: {m.detail}") for m in messages if m.kind == "coming"]


def _row(m: Message, at: dict[str, int], middles: list[int], width: int) -> str:
    """Draw one message over the lines of the participants."""
    cells = [" "] * width
    for x in middles:
        cells[x] = "│"
    here, there = at[m.sender], [at[r] for r in m.receivers]
    line = _LINES[m.kind]
    if there:
        for x in range(min(here, *there), max(here, *there) + 1):
            cells[x] = "┼" if cells[x] == "│" and line == "─" else "┊" if cells[x] == "│" else line
    is_open = m.kind == "coming"
    for x in there:
        cells[x] = ("▷" if is_open else "▶") if x > here else ("◁" if is_open else "◀")
    cells[here] = "○" if is_open else "●" if there else "◆"
    return "".join(cells)


def _columns(participants: Iterable[str], messages: list[Message], first: float) -> dict[str, float]:
    """Place the participants, as far from each other as what is said between them needs."""
    names = list(participants)
    needed: dict[tuple[int, int], float] = {}
    for m in messages:
        here = names.index(m.sender)
        said = min(columns(_said(m)), picture.LONGEST) * picture.LETTER + 3 * picture.PAD
        if m.receivers:
            nearest = min((names.index(r) for r in m.receivers), key=lambda n: abs(n - here))
            pair = min(here, nearest), max(here, nearest)
        elif here + 1 < len(names):
            pair = here, here + 1
        else:
            continue
        needed[pair] = max(needed.get(pair, 0.0), said)
    xs: list[float] = []
    for n, name in enumerate(names):
        least = _wide(name) / 2 + picture.PAD
        x = (
            first + least
            if not xs
            else max(xs[-1] + _COLUMN, xs[-1] + (_wide(names[n - 1]) + _wide(name)) / 2 + picture.PAD)
        )
        x = max([x, *(xs[low] + wide for (low, high), wide in needed.items() if high == n)])
        xs.append(x)
    return dict(zip(names, xs, strict=True))


def _wide(name: str) -> float:
    return columns(cut(name, picture.LONGEST)) * picture.LETTER + 2 * picture.PAD


def _participant(name: str, x: float, bottom: float) -> str:
    wide, top = _wide(name), picture.TOP - 14
    box = picture.rectangle(x - wide / 2, top, wide, _HEAD, 4)
    said = picture.label(x, top + 17, cut(name, picture.LONGEST), "middle")
    life = picture.path("life", f"M{picture.n(x)} {picture.n(top + _HEAD)}V{picture.n(bottom)}")
    return f'<g class="who">{box}{said}</g>\n{life}'


def _arrow(m: Message, xs: dict[str, float], y: float) -> str:
    """Draw a message: one line, and a head at each of its receivers."""
    here, there = xs[m.sender], sorted(xs[r] for r in m.receivers)
    ends = [end for end, is_beyond in ((there[0], there[0] < here), (there[-1], there[-1] > here)) if is_beyond]
    parts = [f"<g><title>{picture.text(_told(m))}</title>\n"]
    parts += [picture.path(m.kind, f"M{picture.n(here)} {picture.n(y)}H{picture.n(end)}") for end in ends]
    for x in there:
        back = -8 if x > here else 8
        kind, close = ("openhead", "") if m.kind == "coming" else ("head", "z")
        parts.append(
            picture.path(
                kind, f"M{picture.n(x + back)} {picture.n(y - 4)}L{picture.n(x)} {picture.n(y)}l{back} 4{close}"
            )
        )
    nearest = min(there, key=lambda x: abs(x - here))
    kind = "bad" if m.label.startswith(("rejected", "failed")) else m.kind
    parts.append(picture.label((here + nearest) / 2, y - 6, cut(_said(m), picture.LONGEST), f"middle {kind}"))
    return "".join([*parts, "</g>\n"])


def _note(m: Message, x: float, y: float) -> str:
    said = cut(_said(m), picture.LONGEST)
    wide = columns(said) * picture.LETTER + 2 * picture.PAD
    box = picture.rectangle(x - picture.PAD, y - 15, wide, 21, 3)
    return f'<g class="note"><title>{picture.text(_told(m))}</title>{box}{picture.label(x, y, said)}</g>\n'
