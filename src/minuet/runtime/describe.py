"""Rows and knowledge as what is told of them: `runtime.view`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from minuet.engine import decide, progress
from minuet.engine.knowledge import Knowledge
from minuet.engine.port import StoredRun
from minuet.engine.program import Program
from minuet.engine.row import ENDED, SETTLED, AttemptRow, EarlyRow, FactRow, InboxRow, RunRow, RunState
from minuet.ids import run_text
from minuet.plans.plan import Plan
from minuet.runtime.view import DeadLetterView, FactView, FailedView, RejectionView, RunView, WaitingView


def is_settled(state: str) -> bool:
    """Say whether nothing more happens by itself: the run has ended, or is parked."""
    return state in SETTLED


def live(k: Knowledge) -> RunView:
    """Give what is told of a run in memory, without its facts."""
    plan = k.program.plan
    run = run_text(k.run)
    return RunView(
        run=run,
        key=k.key if k.key is not None else run,
        workflow=plan.workflow,
        digest=plan.digest,
        style=plan.style,
        state=k.state,
        paused=bool(k.paused),
        dirty=bool(k.dirty),
        started_at_ms=k.started_at_ms,
        ended_at_ms=k.ended_at_ms,
        reason=k.reason,
        result=_result(k.state, k.result),
        rejection=_rejection(k.state, k.result),
    )


def stored(found: StoredRun, program: Program | None, k: Knowledge | None, now_ms: int, *, facts: bool) -> RunView:
    """Give what is told of a stored run. `k` is its knowledge where it is in memory; else the rows are folded."""
    row = found.run
    plan = program.plan if program is not None else None
    reason = row.reason
    if program is not None and row.state not in ENDED and row.state != RunState.QUARANTINED and k is None:
        try:
            k = decide.recall(program, found, now_ms).knowledge
        except Exception as e:  # a run that cannot be understood is shown as far as it can be
            reason = f"{reason or ''} {type(e).__name__}: {e}".strip()
    waits = [] if k is None or row.state in ENDED else [waiting(w) for w in progress.waiting(k)]
    return RunView(
        run=run_text(row.run),
        key=row.key if row.key is not None else run_text(row.run),
        workflow=row.workflow,
        digest=row.digest,
        style=plan.style if plan is not None else "",
        state=row.state,
        paused=bool(row.paused),
        dirty=bool(row.dirty),
        started_at_ms=row.started_at_ms,
        ended_at_ms=row.ended_at_ms,
        reason=reason,
        at="" if k is None or row.state in ENDED else progress.at(k),
        result=_result(row.state, row.result),
        rejection=_rejection(row.state, row.result),
        waiting=waits,
        facts=[_fact(plan, f) for f in found.facts] if facts else [],
    )


def waiting(w: progress.Waiting) -> WaitingView:
    """Give what is told of something that a run waits for."""
    return WaitingView(
        position=w.position,
        round=w.round,
        what=w.what,
        needs=w.needs,
        owner=w.owner,
        since_ms=w.since_ms,
        until_ms=w.until_ms,
        detail=w.detail,
    )


def facts(plan: Plan | None, rows: Sequence[FactRow]) -> list[FactView]:
    """Give what is told of facts."""
    return [_fact(plan, f) for f in rows]


def _fact(plan: Plan | None, f: FactRow) -> FactView:
    what, owner = progress.describe(plan, f.position, f.label) if plan is not None else ("", "")
    place = plan.places.get(f.position.removesuffix("!")) if plan is not None else None
    return FactView(
        seq=f.seq,
        position=f.position,
        round=f.round,
        label=f.label,
        what=what,
        owner=owner,
        at_ms=f.at_ms,
        value=_data(f.value),
        place=f"{place[0]}:{place[1]}" if place is not None else "",
    )


def _data(text: str | None) -> Any:
    """Give stored JSON as data; damaged JSON as the text that it is, since showing it must not fail."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _result(state: str, result: str | None) -> Any:
    return _data(result) if state == RunState.COMPLETED else None


def _rejection(state: str, result: str | None) -> RejectionView | None:
    if state != RunState.COMPENSATED or result is None:
        return None
    try:
        return msgspec.json.decode(result, type=RejectionView)
    except msgspec.DecodeError:
        return RejectionView(code="", position="", message=result)


def failed(
    attempts: Sequence[tuple[RunRow, AttemptRow]],
    runs: Sequence[RunRow],
    events: Sequence[InboxRow],
    letters: Sequence[DeadLetterView] = (),
) -> list[FailedView]:
    """Give what needs a person, oldest first."""
    found = [
        FailedView(
            kind="compensation" if a.direction == "compensation" else "step",
            run=run_text(r.run),
            key=r.key if r.key is not None else run_text(r.run),
            workflow=r.workflow,
            position=a.position,
            direction=a.direction,
            reason=a.error or "",
            attempts=a.attempts,
            first_at_ms=a.first_at_ms,
            last_at_ms=a.last_at_ms,
        )
        for r, a in attempts
    ]
    found += [
        FailedView(
            kind="run",
            run=run_text(r.run),
            key=r.key if r.key is not None else run_text(r.run),
            workflow=r.workflow,
            position="",
            direction="",
            reason=r.reason or "",
            attempts=0,
            first_at_ms=r.started_at_ms,
            last_at_ms=r.started_at_ms,
        )
        for r in runs
    ]
    found += [
        FailedView(
            kind="event",
            run=None,
            key=e.key,
            workflow="",
            position=e.event,
            direction="",
            reason="nobody waited for it in its time",
            attempts=0,
            first_at_ms=e.received_at_ms,
            last_at_ms=e.expires_at_ms,
        )
        for e in events
    ]
    found += [
        FailedView(
            kind="dead-letter",
            run=None,
            key=x.key,
            workflow="",
            position=x.subscription,
            direction="",
            reason=f"{x.reason}: {x.error}" if x.error else x.reason,
            attempts=len(x.attempts),
            first_at_ms=x.first_at_ms,
            last_at_ms=x.last_at_ms,
            id=x.id,
            fingerprint=x.fingerprint,
        )
        for x in letters
    ]
    return sorted(found, key=lambda f: f.first_at_ms)


def kept(rows: Sequence[tuple[str, EarlyRow]]) -> list[FailedView]:
    """Give messages that cannot be taken, with the ids under which a person speaks of them."""
    return [
        FailedView(
            kind="message",
            run=None,
            key=_subject(row),
            workflow="",
            position=row.topic,
            direction="",
            reason=row.reason,
            attempts=0,
            first_at_ms=row.at_ms,
            last_at_ms=row.at_ms,
            id=id_,
        )
        for id_, row in rows
    ]


def _subject(row: EarlyRow) -> str:
    envelope = _data(row.envelope)
    return str(envelope.get("subject", "")) if isinstance(envelope, dict) else ""
