"""The chain of causes: what made each fact of a run happen, as a tree, as Mermaid, as SVG.

Each fact hangs on the one that came last among its causes: with that its rule became true. The others are named beside
it. An only child stands below its cause and not further in, so that a run of many steps stays a column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from minuet.engine.program import CANCEL
from minuet.ids import parse_round
from minuet.observe import picture
from minuet.observe.derivation import Became, Derivation, Known, where
from minuet.observe.text import columns, cut, escaped, span
from minuet.observe.traced import TracedRun
from minuet.plans.plan import Plan

_ROW: Final = 22.0
_IN: Final = 18.0


@dataclass(slots=True, kw_only=True)
class Cause:
    """Something that happened, or is still to come, and what it caused.

    `also`: the causes beside the one under which it stands; `kind`: `fact`, `bad` (a rejection), `undone`, `coming`,
    `end`. `after_ms` counts from the run's start. `number` is its own in the run, `because` those of all its causes.
    """

    number: int
    text: str
    kind: str
    after_ms: int
    because: tuple[int, ...] = ()
    also: tuple[str, ...] = ()
    effects: list[Cause] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """The causes of a run: a tree for each beginning, of which the first is the start. `count`: of all in them."""

    title: str
    roots: list[Cause]
    count: int


def causes_of(plan: Plan, run: TracedRun, now_ms: int) -> Causes:
    """Give what caused what in a run; `now_ms` says how long something has been waited for."""
    derived = Derivation(plan, run)
    begun = run.started_at_ms
    found = {0: Cause(number=0, text="start", kind="fact", after_ms=0)}
    roots = [found[0]]
    named = {f.seq: _named(derived, f) for f in derived.facts}

    def hang(cause: Cause, became: Became | None) -> None:
        found[cause.number] = cause
        before = [c for c in became.causes if c.seq < cause.number] if became is not None else []
        if not before:
            roots.append(cause)
            return
        cause.because = tuple(c.seq for c in before)
        cause.also = tuple(named[c.seq] for c in before[:-1])
        found[before[-1].seq].effects.append(cause)

    for f in derived.facts[1:]:
        kind = "bad" if f.label.startswith(("rejected", "failed")) else "undone" if f.label in _UNDONE else "fact"
        hang(Cause(number=f.seq, text=named[f.seq], kind=kind, after_ms=max(0, f.at_ms - begun)), derived.became(f))
    number = len(derived.facts)
    for w in run.waiting:
        rnd = parse_round(w.round)
        labels = ("compensated",) if derived.outcome(w.position, rnd) else ("ok", "fired")
        rule = next((r for label in labels if (r := derived.recorder(w.position, label)) is not None), None)
        text = f"{where(w.position, rnd)} {w.needs}, from {w.owner} since {span(now_ms - w.since_ms)}"
        cause = Cause(number=number, text=text, kind="coming", after_ms=max(0, now_ms - begun))
        hang(cause, derived.rule(rule, rnd) if rule is not None else None)
        number += 1
    if run.ended_at_ms is not None:
        text = run.state + (f": {run.code}" if run.code else "")
        end = Cause(number=number, text=text, kind="end", after_ms=max(0, run.ended_at_ms - begun))
        hang(end, derived.end(run.state, run.code))
        number += 1
    return Causes(title=f"Causes in run {run.name}: {plan.name}, {plan.style}", roots=roots, count=number)


def causes_text(causes: Causes, width: int = 120) -> str:
    """Give causes as lines of at most `width` columns: when, what, and what else it needed."""
    rows = list(_rows(causes))
    times = max(columns(_time(cause)) for _, cause, _ in rows)
    lines = []
    for guides, cause, _ in rows:
        also = f"  (and {', '.join(cause.also)})" if cause.also else ""
        said = escaped(f"{_MARKS[cause.kind]}{cause.text}{also}")
        lines.append(cut(f"{_time(cause):{times}}  {guides}{said}", width).rstrip())
    return "\n".join(lines) + "\n"


def causes_mermaid(causes: Causes) -> str:
    """Give causes as a Mermaid flowchart: an arrow from each cause to what it helped to cause."""
    lines = ["---", f"title: {picture.quoted(causes.title)}", "---", "flowchart TD"]
    arrows = []
    shown, left_out = picture.folded([cause for _, cause, _ in _rows(causes)])
    kept = {cause.number for cause in shown}
    for cause in sorted(shown, key=lambda c: c.number):
        left, right = ("([", "])") if cause.kind == "end" else ("[", "]")
        lines.append(f'    n{cause.number}{left}"{picture.entities(cause.text)}"{right}{_CLASSES.get(cause.kind, "")}')
        line = "-.->" if cause.kind == "coming" else "-->"
        arrows += [f"    n{n} {line} n{cause.number}" for n in cause.because if n in kept]
    if left_out:
        lines.append(f'    more["{left_out} more are not drawn"]')
    styles = [
        "    classDef bad stroke:#cf222e,stroke-width:2px",
        "    classDef undone stroke-dasharray:4",
        "    classDef coming stroke-dasharray:2",
    ]
    return "\n".join([*lines, *arrows, *styles]) + "\n"


def causes_svg(causes: Causes, *, is_alone: bool = True) -> str:
    """Give causes as SVG; `is_alone`: with its style, for a file of its own."""
    rows, left_out = picture.folded(list(_rows(causes)))
    first = max(columns(_time(cause)) for _, cause, _ in rows) * picture.LETTER + 3 * picture.PAD
    parts, width = [], 0.0
    lines: dict[int, tuple[float, float]] = {}  # a fact -> where a line may leave it
    for n, (guides, cause, above) in enumerate(rows):
        x, y = first + columns(guides) / 2 * _IN, picture.TOP + n * _ROW
        said = f"{_MARKS[cause.kind]}{cause.text}"
        shown = cut(said, picture.LONGEST)
        also = cut(f"and {', '.join(cause.also)}", picture.LONGEST) if cause.also else ""
        lines[cause.number] = x - 8, y + 2
        if above in lines:
            from_x, from_y = lines[above]
            parts.append(
                picture.path("line", f"M{picture.n(from_x)} {picture.n(from_y)}V{picture.n(y - 4)}H{picture.n(x - 3)}")
            )
        parts.append(picture.label(picture.PAD, y, _time(cause), "faint"))
        parts.append(
            picture.label(x, y, shown, cause.kind, title="; ".join(filter(None, [said, ", ".join(cause.also)])))
        )
        end = x + columns(shown) * picture.LETTER
        if also:
            parts.append(picture.label(end + picture.LETTER, y, also, "faint"))
            end += (columns(also) + 1) * picture.LETTER
        width = max(width, end + picture.PAD)
    if left_out:
        parts.append(picture.label(first, picture.TOP + len(rows) * _ROW, f"{left_out} more are not drawn", "faint"))
    told = "; ".join(
        cause.text + (f" because of {', '.join([*cause.also, above_text])}" if above_text else "")
        for cause, above_text in _because(causes)
    )
    height = picture.TOP + (len(rows) + bool(left_out)) * _ROW
    return picture.document(
        causes.title, told, max(width, picture.heading(causes.title)), height, parts, is_alone=is_alone
    )


_UNDONE: Final = frozenset({"compensated", "back", "gone"})
_CLASSES: Final = {"bad": ":::bad", "undone": ":::undone", "coming": ":::coming"}
_MARKS: Final = {"fact": "", "bad": "✗ ", "undone": "↩ ", "coming": "… ", "end": "■ "}


def _named(derived: Derivation, f: Known) -> str:
    if f.seq == 0:
        return "start"
    if f.position == CANCEL:
        return "cancel requested"
    return f"{f.where} {derived.what(f.position, f.label)} {f.label}"


def _rows(causes: Causes) -> Iterator[tuple[str, Cause, int]]:
    """Give each with what leads to it in a tree of text, and the number of the one above it (-1: none)."""
    todo = [(root, "", "", -1) for root in reversed(causes.roots)]
    while todo:
        cause, lead, below, above = todo.pop()
        yield lead, cause, above
        effects = cause.effects
        if len(effects) == 1:
            todo.append((effects[0], below, below, cause.number))
            continue
        for n, effect in reversed(list(enumerate(effects))):
            is_last = n == len(effects) - 1
            joint, down = ("└─", "  ") if is_last else ("├─", "│ ")
            todo.append((effect, below + joint, below + down, cause.number))


def _because(causes: Causes) -> Iterator[tuple[Cause, str]]:
    texts: dict[int, str] = {}
    for _, cause, above in _rows(causes):
        texts[cause.number] = cause.text
        yield cause, texts.get(above, "")


def _time(cause: Cause) -> str:
    return f"+{span(cause.after_ms)}" if cause.kind != "coming" else "…"
