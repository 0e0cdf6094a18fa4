"""A crash at every point of a run: what became of each is to be what becomes of the run without a crash.

A process waits wherever time passes, or an action waits for something; a crash between two such points is the same as
one at either. So the run is performed once, and each moment noted at which something was recorded, or an action began,
waited or ended. Then it is performed once for each of those moments, and for each process in each gap between them.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from minuet.runtime.view import RunView
from minuet.testing.assertion import Step, normal_form
from minuet.testing.simulated import SimulatedApp, SimulatedRun
from minuet.workflows.workflow import Workflow

Open = Callable[[], SimulatedApp]
Perform = Callable[[SimulatedApp], Coroutine[Any, Any, RunView]]
Then = Callable[[SimulatedRun[Any]], Awaitable[object]]
GAP = (0.2, 0.8)  # where in a gap: what was said may be on its way, or have arrived


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """A crash, and what became of the run. `where` says after what it came; `facts` are in normal form."""

    where: str
    at_s: float
    process: str
    state: str
    result: Any
    facts: tuple[Step, ...]


def crash_at_each(
    opened: Open, flow: Workflow[Any, Any, Any], input_: Any, then: Then | None = None
) -> list[CrashPoint]:
    """Perform a run with a crash at every point. Raises AssertionError where one came to something else."""

    async def perform(app: SimulatedApp) -> RunView:
        run = await app.start(flow, input_)
        if then is not None:
            await then(run)
        return await run.show()

    app = opened()
    try:
        begun_s = app.world.now_s
        view = _at_once(perform(app))
        story, moments = list(app.world.story), list(app.stage.moments)
        members = [m.name for m in app.world.members]
    finally:
        app.close()
    times = sorted({begun_s, *(at for at, _ in moments), *(at for at, _, _ in story if at >= begun_s)})
    points: list[CrashPoint] = []
    for n, (at_s, what) in enumerate(moments):
        again = opened()
        again.stage.crash_at = n
        points.append(_crashed(again, perform, f"when {what}", at_s, ""))
    for at_s in _gaps(times):
        for name in members:
            again = opened()
            _crash_at(again, name, at_s)
            points.append(_crashed(again, perform, _what(story, at_s), at_s, name))
    _compare(points, view)
    return points


def _gaps(times: list[float]) -> Iterator[float]:
    for before, after in itertools.pairwise(times):
        for share in GAP:
            yield before + share * (after - before)


def _crash_at(app: SimulatedApp, name: str, at_s: float) -> None:
    member = next(m for m in app.world.members if m.name == name)

    def crash() -> None:
        if member.process is not None:
            app.stage.crash(member.process)

    app.world.loop.call_outside(at_s, crash)


def _crashed(app: SimulatedApp, perform: Perform, where: str, at_s: float, process: str) -> CrashPoint:
    try:
        view = _at_once(perform(app))
    finally:
        app.close()
    facts = tuple(normal_form(view.facts))
    return CrashPoint(where=where, at_s=at_s, process=process, state=view.state, result=view.result, facts=facts)


def _at_once(coroutine: Coroutine[Any, Any, RunView]) -> RunView:
    """Run a coroutine that waits for nothing of this loop: all its time passes within the world."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        view: RunView = end.value
        return view
    raise AssertionError("it waits for something outside of its world")


def _what(story: list[tuple[float, str, str]], at_s: float) -> str:
    told = [f"{who} {what}" for at, who, what in story if at <= at_s]
    return f"after: {told[-1]}" if told else "before anything"


def _compare(points: list[CrashPoint], view: RunView) -> None:
    wanted = normal_form(view.facts)
    for p in points:
        if p.state != view.state or p.result != view.result or set(p.facts) != set(wanted):
            told = f"a crash at {p.at_s:.4f} s, {p.where}, makes a difference: {p.state} {p.result!r}"
            missing = [f"- {s}" for s in wanted if s not in p.facts]
            more = [f"+ {s}" for s in p.facts if s not in wanted]
            raise AssertionError("\n".join([f"{told} instead of {view.state} {view.result!r}", *missing, *more]))
