"""A run as the observer has heard of it, with what the participants of this program know besides."""

from __future__ import annotations

import msgspec

from minuet.engine import progress
from minuet.engine.port import StoredRun
from minuet.engine.row import ENDED, RunState
from minuet.runtime import describe
from minuet.runtime.hosts import Hosts
from minuet.runtime.observer_order import in_order
from minuet.runtime.view import RunView, WaitingView


async def observed(view: RunView, stored: StoredRun, hosts: Hosts, *, facts: bool) -> RunView:
    """Give a run with its state from home, its facts from the observer, its attempts from whoever makes them."""
    run, told = stored.run.run, view
    if hosts.observer is not None and (seen := await hosts.observer.store.load_run(run)) is not None:
        participant = hosts.observer.participant
        program = participant.programs.get(stored.run.digest)
        heard = in_order(program, seen.facts) if program is not None else seen.facts
        whole = StoredRun(run=stored.run._replace(home=None), facts=seen.facts)
        told = describe.stored(whole, program, participant.runs.get(run), participant.clock.now_ms(), facts=False)
        plan = program.plan if program is not None else None
        told = msgspec.structs.replace(told, facts=describe.facts(plan, heard) if facts else [], reason=view.reason)
    return told if stored.run.state in ENDED else await _with_attempts(told, run, hosts)


async def _with_attempts(view: RunView, run: int, hosts: Hosts) -> RunView:
    """Add what the participants of this program know of their own: attempts, errors, and what is parked."""
    own: dict[tuple[str, str], WaitingView] = {}
    state, reason, at = view.state, view.reason, view.at
    for host in hosts.services:
        row = await host.store.load_run(run)
        if row is not None and row.run.state == RunState.QUARANTINED:
            state, reason = RunState.QUARANTINED, f"{host.address}: {row.run.reason}"
            continue
        k = await host.participant.load(run) if row is not None else None
        if k is None:
            continue
        own |= {(w.position, w.round): describe.waiting(w) for w in progress.waiting(k)}
        if k.state == RunState.STUCK and state not in (RunState.STUCK, RunState.QUARANTINED):
            state, reason, at = RunState.STUCK, k.reason, progress.at(k)
    waiting = [own.pop((w.position, w.round), w) for w in view.waiting]
    waiting += [w for w in own.values() if w.what == "person"]
    return msgspec.structs.replace(view, waiting=waiting, state=state, reason=reason, at=at)
