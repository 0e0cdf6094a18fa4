"""How long things usually take, learnt from the runs of a store; and what is waited for, with when it becomes late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from minuet.engine.port import RunFilter, StoredRun, StoreReads
from minuet.engine.program import START_POSITION, Program
from minuet.engine.progress import Waiting
from minuet.observe.traced import TracedFact, TracedRun
from minuet.observe.usual import FACTS, Place, Usual, Usuals, expected_ms, took
from minuet.runtime.view import RunView, WaitingView

RECENT: Final = 50
"""Runs of a workflow that are read at the start."""

PAGE: Final = 25
"""Runs that are read at once: others have their turn in between."""


async def learn_recent(
    usuals: Usuals, store: StoreReads, workflow: str, program: Callable[[str], Awaitable[Program | None]]
) -> None:
    """Learn from the newest runs of a workflow. `program` gives the tables of a plan by its digest."""
    rows = await store.list_runs(RunFilter(workflow=workflow, limit=RECENT))
    runs = [row.run for row in reversed(rows)]
    for i in range(0, len(runs), PAGE):
        for stored in await store.load_runs(runs[i : i + PAGE]):
            if (tables := await program(stored.run.digest)) is not None:
                usuals.learn(took(tables.plan, traced(stored)))


def traced(stored: StoredRun) -> TracedRun:
    """Give a stored run as `observe` looks at it: without its values, and no more facts than it learns from."""
    row = stored.run
    began = next((f.at_ms for f in stored.facts if f.position == START_POSITION), row.started_at_ms)
    facts = (f for f in stored.facts[: FACTS + 1] if f.position != START_POSITION)
    return TracedRun(
        run=str(row.run),
        key=str(row.run),
        state=row.state,
        started_at_ms=began,
        ended_at_ms=row.ended_at_ms,
        facts=[TracedFact(position=f.position, round=f.round, label=f.label, at_ms=f.at_ms) for f in facts],
    )


def expectation(usuals: Usuals, workflow: str, w: Waiting | WaitingView) -> tuple[Usual | None, int | None]:
    """Say how long something usually takes, and the instant until which it is not late; None: nobody is to hurry.

    What is parked waits for a person, and nobody can say how long that takes.
    """
    if w.what == "person":
        return None, None
    what = w.needs.partition(" ")[0] if w.what == "event" else w.needs  # the name of an event goes before its key
    is_timer = w.what == "timer"
    usual = None if is_timer else usuals.of(Place(workflow, w.position, what))
    return usual, expected_ms(usual, w.since_ms, w.until_ms, is_timer=is_timer)


def expecting(view: RunView, usuals: Usuals, now_ms: int) -> RunView:
    """Say of each thing that a run waits for how long it usually takes, and whether it is late. A paused run is not."""
    waiting = []
    for w in view.waiting:
        usual, expected = expectation(usuals, view.workflow, w)
        expected = None if view.paused else expected
        waiting.append(
            msgspec.structs.replace(
                w,
                usual_ms=usual.median_ms if usual is not None else None,
                expected_ms=expected,
                late=expected is not None and now_ms > expected,
            )
        )
    return msgspec.structs.replace(view, waiting=waiting)
