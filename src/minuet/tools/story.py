"""A run, told in rows: one for each fact as they were recorded, then what it waits for; or drawn as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from minuet.observe.causes import causes_mermaid, causes_of, causes_svg, causes_text
from minuet.observe.sequence import sequence_of
from minuet.observe.sequence_drawing import sequence_mermaid, sequence_svg, sequence_text
from minuet.observe.timeline import timeline_of
from minuet.observe.timeline_drawing import timeline_mermaid, timeline_svg, timeline_text
from minuet.observe.traced import TracedFact, TracedRun, TracedWait
from minuet.plans.plan import Plan
from minuet.runtime.view import FactView, RunView, WaitingView
from minuet.tools.output import age_text, escaped, paint, state_text, time_text, value_text

Picture = Literal["sequence", "timeline", "causes"]
Form = Literal["text", "mermaid", "svg"]

_MARKS = frozenset({"open", "back", "gone"})
"""Labels that only the rules of blocks read: they say nothing that the other facts do not."""


def header(view: RunView, now_ms: int) -> list[str]:
    """Say in a few lines which run this is, how it is, and what it waits for first."""
    name = paint(escaped(view.run), "strong") + ("" if view.key == view.run else f"  key {escaped(view.key)}")
    state = state_text(view.state) + (" paused" if view.paused else "") + (" dirty" if view.dirty else "")
    lines = [f"{name}  {escaped(view.workflow)}@{escaped(view.digest[:8])}  {escaped(view.style)}  {state}"]
    begun = f"begun {time_text(view.started_at_ms, now_ms)}"
    if view.ended_at_ms is None:
        lines.append(f"{begun}, {age_text(now_ms - view.started_at_ms)} ago")
    else:
        lines.append(f"{begun}, ended after {age_text(view.ended_at_ms - view.started_at_ms)}")
    if view.reason:
        lines.append(f"reason: {escaped(view.reason)}")
    if view.state == "completed" and view.result is not None:
        lines.append(f"result: {value_text(view.result)}")
    if (no := view.rejection) is not None:
        said = f": {escaped(no.message)}" if no.message else ""
        details = f" {value_text(no.details)}" if no.details else ""
        lines.append(f"rejected with {escaped(no.code)} at {escaped(no.position)}{said}{details}")
    return lines


def fact_rows(facts: Iterable[FactView], now_ms: int, *, with_values: bool = False) -> list[tuple[str, ...]]:
    """Give a row for each fact: position, what, label, when, owner, place, and the value where it is asked for."""
    rows: list[tuple[str, ...]] = []
    for fact in facts:
        if fact.label in _MARKS and not with_values:
            continue
        row = (
            _where(fact.position, fact.round),
            fact.what,
            fact.label,
            time_text(fact.at_ms, now_ms),
            fact.owner,
            fact.place,
        )
        value = "" if fact.value is None else value_text(fact.value, longest=200)
        rows.append((*row, value) if with_values else row)
    return rows


def waiting_rows(waiting: Iterable[WaitingView], now_ms: int, *, with_values: bool = False) -> list[tuple[str, ...]]:
    """Give a row for each thing that a run waits for: what, since when, until when, from whom."""
    words = {"action": "running", "event": "waits for event", "timer": "sleeps", "person": "needs a person"}
    rows: list[tuple[str, ...]] = []
    for w in waiting:
        until = "" if w.until_ms is None else f"until {time_text(w.until_ms, now_ms)}"
        row = (
            _where(w.position, w.round),
            w.needs,
            words.get(w.what, w.what),
            since_text(w, now_ms),
            w.owner,
            ", ".join(part for part in (until, w.detail) if part),
        )
        rows.append((*row, "") if with_values else row)
    return rows


def since_text(w: WaitingView, now_ms: int) -> str:
    """Say since when something is waited for, how long it usually takes, and whether it is late."""
    usual = "" if w.usual_ms is None else f", usually {age_text(w.usual_ms)}"
    return f"since {age_text(now_ms - w.since_ms)}{usual}" + (", late" if w.late else "")


def traced(view: RunView) -> TracedRun:
    """Give a run as `observe` looks at it: without its values."""
    return TracedRun(
        run=view.run,
        key=view.key,
        state=view.state,
        started_at_ms=view.started_at_ms,
        ended_at_ms=view.ended_at_ms,
        code=view.rejection.code if view.rejection is not None else "",
        facts=[TracedFact(position=f.position, round=f.round, label=f.label, at_ms=f.at_ms) for f in view.facts],
        waiting=[
            TracedWait(
                position=w.position,
                round=w.round,
                what=w.what,
                needs=w.needs,
                owner=w.owner,
                since_ms=w.since_ms,
                until_ms=w.until_ms,
                detail=w.detail,
            )
            for w in view.waiting
        ],
    )


def drawn(view: RunView, plan: Plan, picture: Picture, form: Form, *, now_ms: int, width: int) -> str:
    """Draw a run; `width` is that of the text, in columns."""
    run = traced(view)
    match picture:
        case "sequence":
            sequence = sequence_of(plan, run, now_ms)
            if form == "text":
                return sequence_text(sequence, width)
            return sequence_mermaid(sequence) if form == "mermaid" else sequence_svg(sequence)
        case "timeline":
            timeline = timeline_of(plan, run, now_ms)
            if form == "text":
                return timeline_text(timeline, width)
            return timeline_mermaid(timeline) if form == "mermaid" else timeline_svg(timeline)
        case "causes":
            causes = causes_of(plan, run, now_ms)
            if form == "text":
                return causes_text(causes, width)
            return causes_mermaid(causes) if form == "mermaid" else causes_svg(causes)


def _where(position: str, round_: str) -> str:
    return f"{position}[{round_}]" if round_ else position
