"""Random workflows by the real engine, runtime and stores: the same facts, values, end and order as by the interpreter.

Each workflow is orchestrated, choreographed, and both in pieces. Participants have a store each, or share one; messages
come in any order, late and twice; participants crash, forget what they need not keep in memory, and learn plans late.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from minuet.engine.port import StoredRun
from minuet.engine.row import ENDED, RunState
from minuet.ids import op_key, run_text
from minuet.plans.placement import CHOREOGRAPHY, ORCHESTRATION, Placement
from minuet.plans.plan import load_plan, make_plan
from tests.property.acting import Performance, fit, performance
from tests.property.batch import HOME, ROOMY, Batch, How
from tests.property.equality import _difference, _may_park
from tests.property.interpreter import assert_in_order, leaves
from tests.property.maker import Maker
from tests.property.performer import without_plumbing
from tests.property.placements import _as_seq, _without, sectioned

PLACEMENTS = ("O", "C", "O*", "C*")  # the root's style; with a star some pieces have sections of either style
WORLDS = 5  # in which each plan is performed
ENDS_S = 240  # a batch takes some ten seconds


def performances(seed: int, depth: int = 3, *, hangs: bool = True) -> list[Performance]:
    """Make one random workflow, and runs of it in each placement, each in several worlds.

    Where no action may hang (`hangs`) none keeps its run in memory while time passes.
    """
    made = Maker(seed).workflow(depth)
    plain = fit(_without(made))
    mixed = fit(replace(made, body=_as_seq(sectioned(made.body, random.Random(seed), [0]))))
    numbers = itertools.count(1_000 * (1 + seed % 10_000))  # inputs: another in each run of a batch
    found = []
    for name in PLACEMENTS:
        kind = name.replace("*", "x").lower()
        tree = replace(mixed if name.endswith("*") else plain, name=f"made{seed}{kind}")
        style = ORCHESTRATION if name.startswith("O") else CHOREOGRAPHY
        plan = load_plan(make_plan(tree, Placement(root=style)).to_json())
        found += [
            performance(f"seed {seed} {name} world {i}", plan, tree, f"{seed} {i}", next(numbers), hangs=hangs)
            for i in range(WORLDS)
        ]
    return found


def how(seed: int, folder: Path | None = None) -> How:
    """Say how the batch of a seed is performed: ten seeds in a row have all there is."""
    r, x = random.Random(f"how {seed}"), seed % 10
    return How(
        seed=seed,
        folder=folder if x in (3, 7) else None,
        is_together=x == 9,
        crashes=r.randint(2, 6) if x in (2, 3, 5, 7, 9) else 0,
        runs_in_memory=r.choice((10, 40)) if x in (1, 8) else ROOMY,
        late_plans=x in (4, 5),
    )


def perform(seed: int, workflows: int, depth: int = 3) -> tuple[Counter[str], list[str]]:
    """Perform one batch from its seed; give what was counted, and the differences."""
    hangs = not how(seed).is_short_of_memory
    given = [p for i in range(workflows) for p in performances(seed * workflows + i, depth, hangs=hangs)]
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(check(how(seed, Path(folder)), given))


async def check(way: How, given: Sequence[Performance]) -> tuple[Counter[str], list[str]]:
    """Perform runs together; give what was counted, and the differences."""
    batch = Batch(way, given)
    try:
        async with asyncio.timeout(ENDS_S):
            await batch.perform()
            audit = await _audit(batch)
    except Exception as e:  # every kind of failure is a difference
        return Counter(), [f"{way}: {type(e).__name__}: {e}"]
    finally:
        await batch.close()
    counts = Counter[str](crashes=batch.crashes, published=batch.broker.published, delivered=batch.broker.delivered)
    differences = [f"{way}: {what}" for what in batch.log.wrong_anywhere + audit.left]
    for p in given:
        try:
            counts += _compare(batch, p, audit)
        except Exception as e:
            differences.append(f"{p.name} in {way}: {type(e).__name__}: {str(e)[:900]}")
    return counts, differences


class _Audit:
    """What the stores hold in the end. `left`: what belongs to no run, and should not be there."""

    def __init__(self) -> None:
        self.runs: dict[int, dict[str, StoredRun]] = {}  # by store
        self.effects = Counter[str]()  # by operation key: rows that services wrote within their transactions
        self.done: dict[str, set[str]] = {}  # by run: operation keys of all that was done
        self.kept: set[str] = set()  # keys of events that nobody has taken
        self.left: list[str] = []


async def _audit(batch: Batch) -> _Audit:
    audit, runs = _Audit(), [p.run for p in batch.performances]
    for name, shelf in batch.shelves.items():
        for stored in await shelf.inner.load_runs(runs):
            audit.runs.setdefault(stored.run.run, {})[name] = stored
        if sending := await shelf.inner.sending(0, 3):
            audit.left.append(f"not sent by {name}: {sending}")
        if early := await shelf.inner.early(None, 3):
            audit.left.append(f"not taken by {name}: {early}")
        audit.kept |= set(await shelf.column("select key from minuet_inbox where state <> 'taken'"))
        if await shelf.column("select name from sqlite_schema where name = 'effect'"):
            audit.effects.update(await shelf.column("select op_key from effect"))
        busy = [k.run for k in batch.hosts[name].participant.runs.values() if k.agenda or k.uncommitted or k.owners]
        audit.left += [f"busy in memory of {name}: {run_text(run)}" for run in busy]
    for op in [*audit.effects, *batch.world.done]:
        audit.done.setdefault(op.partition(":")[0], set()).add(op)
    return audit


def _compare(batch: Batch, p: Performance, audit: _Audit) -> Counter[str]:
    """Compare a run with what it should have come to; AssertionError where it differs."""
    stored = audit.runs[p.run]
    run = stored[HOME].run
    parked = [s.run.reason for s in stored.values() if s.run.state == RunState.STUCK]
    if parked and all(_may_park(p.tree, reason) for reason in parked):
        return Counter(parked=1, performances=1)
    got, facts = without_plumbing(batch.log.facts.get(p.run, {}), p.nodes), dict(leaves(p.want.trace))
    states = {name: (s.run.state, s.run.reason) for name, s in stored.items()}
    assert got == facts, ("facts", _difference(got, facts), _difference(facts, got), states)
    result: Any = msgspec.json.decode(run.result) if run.result else None
    if p.want.end == "failed":
        assert run.state == RunState.COMPENSATED, ("end", run, p.want.code)
        assert result["code"] == p.want.code, ("code", result, p.want.code)
    else:
        assert run.state == RunState.COMPLETED, ("end", run, p.want.value)
        assert result == p.want.value, ("result", result, p.want.value)
    assert_in_order(p.want.trace, {f: i for i, f in enumerate(got)})
    wrong = batch.log.wrong.get(p.run, []) + batch.world.wrong.get(p.run, [])
    assert not wrong, ("wrong", wrong)
    _nothing_left(p, stored, audit)
    _each_effect_once(batch, p, audit)
    return Counter({"performances": 1, "facts": len(facts), "failed" if p.want.end == "failed" else "completed": 1})


def _nothing_left(p: Performance, stored: dict[str, StoredRun], audit: _Audit) -> None:
    """Assert that the run is over for every participant, and that nobody waits for anything."""
    for name, s in stored.items():
        assert s.run.state in ENDED, ("unfinished", name, s.run.state, s.run.reason)
        left = [a for a in s.attempts if a.state != "tombstone"], s.timers, s.waits, s.run.load
        assert left == ([], [], [], None), ("left", name, left)
        values = {(f.position, f.round, f.label): f.value for other in stored.values() for f in other.facts}
        for f in s.facts:
            assert values[f.position, f.round, f.label] == f.value, ("told otherwise", name, f)
    kept = [key for key, when, _ in p.oracle.awaited.values() if when != "late" and key in audit.kept]
    assert not kept, ("events that nobody took", kept)


def _each_effect_once(batch: Batch, p: Performance, audit: _Audit) -> None:
    """Assert that what has a fact was done once, and that nothing else was done.

    Where a participant has crashed, what was not written within the transaction of its fact may be done again.
    """
    world, steps = batch.world, {r.position for r in p.plan.rules if r.kind == "run"}
    recorded = {
        op_key(p.run, position, round_, "forward" if label == "ok" else "compensation")
        for position, round_, label in batch.log.facts.get(p.run, {})
        if position in steps and label in ("ok", "compensated")
    }
    for op in recorded:
        n, calls = world.done[op] + audit.effects[op], world.calls[op] - world.failed[op]
        assert n == 1 or (batch.crashes and n > 1 and not audit.effects[op]), ("done", op, n)
        assert calls == n or (batch.crashes and calls > n), ("called", op, calls, n)
    if not batch.crashes:
        more = audit.done.get(run_text(p.run), set()) - recorded
        assert not more, ("done, and not recorded", more)
