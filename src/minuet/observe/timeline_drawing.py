"""A timeline as text, as Mermaid (Gantt), as SVG. Each kind of bar has a shape of its own, beside its colour."""

from __future__ import annotations

from typing import Final

from minuet.observe import picture
from minuet.observe.text import columns, cut, escaped, span
from minuet.observe.timeline import Bar, Row, Timeline

_NAME_MAX: Final = 36
_BARS_MIN: Final = 20
_ROW: Final = 24.0
_BARS: Final = 640.0  # how wide the whole of a run is drawn
_FILLS: Final = {"action": "█", "wait": "░", "compensation": "▒", "parked": "!"}


def timeline_text(timeline: Timeline, width: int = 120) -> str:
    """Give a timeline as lines of at most `width` columns: what, its bars, how it ended and how long it took.

    Steps are full, waits light, compensations grey, what needs a person `!`; an open bar ends in an arrow.
    """
    rows = [(cut(escaped(row.name), _NAME_MAX), escaped(_said(row))) for row in timeline.rows]
    first = max(columns(name) for name in ["STEP", *(name for name, _ in rows)])
    last = min(
        max((columns(said) for _, said in rows), default=0), max(16, width // 3), max(4, width - first - _BARS_MIN - 4)
    )
    room = max(_BARS_MIN, width - first - last - 4)
    scale = span(timeline.length_ms)
    lines = [f"{'STEP':{first}}  0{' ' * max(1, room - 1 - columns(scale))}{scale}"]
    for row, (name, said) in zip(timeline.rows, rows, strict=True):
        cells = [" "] * room
        for bar in row.bars:
            _fill(cells, bar, timeline.length_ms)
        lines.append(f"{name}{' ' * (first - columns(name))}  {''.join(cells)}  {cut(said, last)}".rstrip())
    return "\n".join(lines) + "\n"


def timeline_mermaid(timeline: Timeline) -> str:
    """Give a timeline as a Mermaid Gantt chart; a section a row."""
    lines = ["---", f"title: {picture.quoted(timeline.title)}", "---", "gantt"]
    lines += ["    dateFormat x", "    axisFormat %H:%M:%S"]
    shown, left_out = picture.folded(timeline.rows)
    for row in shown:
        lines.append(f"    section {picture.entities(row.name)}")
        for bar in row.bars:
            begin = timeline.started_at_ms + bar.from_ms
            end = timeline.started_at_ms + (timeline.length_ms if bar.to_ms is None else bar.to_ms)
            tag = _TAGS[bar.kind] if not bar.is_open or bar.kind == "parked" else "active, "
            lines.append(f"    {picture.entities(_told(bar))} :{tag}{begin}, {max(end, begin + 1)}")
    if left_out:
        lines += ["    section more", f"    {left_out} more are not drawn :{timeline.started_at_ms}, 1ms"]
    return "\n".join(lines) + "\n"


def timeline_svg(timeline: Timeline, *, is_alone: bool = True) -> str:
    """Give a timeline as SVG; `is_alone`: with its style, for a file of its own."""
    shown, left_out = picture.folded(timeline.rows)
    first = max((columns(cut(row.name, _NAME_MAX)) for row in shown), default=0) * picture.LETTER + 2 * picture.PAD
    bottom = picture.TOP + (len(shown) + bool(left_out)) * _ROW + picture.PAD
    parts = []
    for tenth in range(0, 11, 2):
        x = first + _BARS * tenth / 10
        parts.append(picture.path("grid", f"M{picture.n(x)} {picture.n(picture.TOP)}V{picture.n(bottom)}"))
        at = span(timeline.length_ms * tenth // 10)
        parts.append(picture.label(x, picture.TOP - 6, at, "faint" if tenth == 0 else "faint middle"))
    width = first + _BARS
    y = picture.TOP
    for row in shown:
        parts.append(picture.label(picture.PAD, y + 16, cut(row.name, _NAME_MAX), title=row.name))
        parts += [_drawn(bar, row, timeline.length_ms, first, y + 5) for bar in row.bars]
        said = cut(_said(row), picture.LONGEST)
        parts.append(picture.label(first + _BARS + 2 * picture.PAD, y + 16, said, _tone(row)))
        width = max(width, first + _BARS + 3 * picture.PAD + columns(said) * picture.LETTER)
        y += _ROW
    if left_out:
        parts.append(picture.label(picture.PAD, y + 16, f"{left_out} more are not drawn", "faint"))
    told = "; ".join(f"{row.name}: {', '.join(_told(bar) for bar in row.bars)}" for row in shown)
    width = max(width, picture.heading(timeline.title))
    return picture.document(timeline.title, told, width, bottom + picture.PAD, parts, is_alone=is_alone)


_TAGS: Final = {"action": "done, ", "wait": "", "compensation": "crit, done, ", "parked": "crit, active, "}


def _told(bar: Bar) -> str:
    """Say what a bar shows."""
    if bar.to_ms is None:
        return f"{bar.text}, since +{span(bar.from_ms)}"
    return f"{bar.text}, {span(bar.to_ms - bar.from_ms)} from +{span(bar.from_ms)}"


def _said(row: Row) -> str:
    """Say how a row ended, and how long each of its bars took."""
    return ", ".join(
        bar.text if bar.to_ms is None else f"{bar.text} {span(bar.to_ms - bar.from_ms)}" for bar in row.bars
    )


def _tone(row: Row) -> str:
    last = row.bars[-1]
    if last.kind == "parked" or last.text.startswith("rejected"):
        return "bad"
    return "undone" if last.kind == "compensation" else ""


def _fill(cells: list[str], bar: Bar, length_ms: int) -> None:
    room = len(cells)
    begin = min(room - 1, bar.from_ms * room // length_ms)
    end = room if bar.to_ms is None else max(begin + 1, min(room, -(-bar.to_ms * room // length_ms)))
    while begin > 0 and end - begin == 1 and cells[begin] != " " and end < room:
        begin, end = begin + 1, end + 1  # a short bar behind another is seen all the same
    for x in range(begin, end):
        cells[x] = _FILLS[bar.kind]
    if bar.is_open:
        cells[-1] = "▶"


def _drawn(bar: Bar, row: Row, length_ms: int, left: float, y: float) -> str:
    """Draw a bar: full for a step, hatched for a wait, with a thick border for a compensation; open: with an arrow."""
    begin = left + _BARS * min(bar.from_ms, length_ms) / length_ms
    end = left + _BARS * min(length_ms if bar.to_ms is None else bar.to_ms, length_ms) / length_ms
    wide, tall = max(2.0, end - begin), 14.0
    parts = [f'<g class="{bar.kind}"><title>{picture.text(f"{row.name}: {_told(bar)}")}</title>']
    parts.append(picture.rectangle(begin, y, wide, tall))
    if bar.kind == "wait":
        lines = [
            f"M{picture.n(begin + x)} {picture.n(y + tall)}L{picture.n(begin + min(x + tall, wide))} "
            f"{picture.n(y + tall - min(tall, wide - x))}"
            for x in range(0, int(wide), 7)
        ]
        parts.append(f'<path d="{"".join(lines)}"/>')
    if bar.is_open:
        parts.append(f'<path class="head" d="M{picture.n(end)} {picture.n(y)}l8 7l-8 7z"/>')
    return "".join([*parts, "</g>\n"])
