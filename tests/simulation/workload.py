"""Random workflows in simulated worlds, and what each of their runs must come to, whatever goes wrong.

The oracle has fixed what every action answers and which events come; so the reference interpreter says beforehand which
facts there will be, with which values, and how the run ends. No step has a time limit, and those of waits are long:
then nothing depends on how long a fault lasts.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import msgspec

from minuet import App
from minuet.contracts.action import RetryPolicy
from minuet.contracts.handler import Context
from minuet.engine.port import StoredRun
from minuet.engine.row import ENDED, Decision, InboxRow, RunState
from minuet.errors import Conflict, StoreError
from minuet.ids import op_key, parse_run, run_text
from minuet.plans.placement import CHOREOGRAPHY, ORCHESTRATION, is_conductor
from minuet.plans.plan import Plan
from minuet.runtime.settings import Settings
from minuet.testing.simulation.member import Member
from minuet.testing.simulation.world import Layout, World
from minuet.workflows.tree import Node, Step, Wait, WorkflowTree
from minuet.workflows.workflow import Workflow
from tests.property.acting import Alpha, Beta, Listening, Performance, fit, services
from tests.property.equality import _difference, _may_park
from tests.property.interpreter import Round, assert_in_order, interpret, leaves
from tests.property.maker import Maker
from tests.property.performer import _positions, without_plumbing
from tests.property.placements import _as_seq, _without, sectioned
from tests.simulation.effects import done_twice, written

WAIT_MS = 300_000
KINDS = ("orchestrated", "choreographed", "hybrid")
SETTINGS = Settings(retry=RetryPolicy(attempts=1_000, first_ms=20, at_most_ms=1_000))


class Patient(Listening):
    """The world's answers, where events are seldom late."""

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed, hangs=False)

    def event(self, n: Wait, round_: Round) -> tuple[str, int]:
        """Say when an event comes, and what it says."""
        when, says = super().event(n, round_)
        r = random.Random(f"{self.seed}{n.position}{round_} late")
        return ("soon" if when == "late" and r.random() < 0.7 else when), says


class Made(Workflow[Any, Any, Any]):
    """A workflow that was never written as text."""

    def __init__(self, tree: WorkflowTree) -> None:
        self.name = tree.name
        self.tree = tree
        self.events = {}
        self.rejections = {}
        self.notes = ()

    @property
    def input_type(self) -> Any:
        """Its input is a number."""
        return int

    @property
    def result_type(self) -> Any:
        """Its result is anything."""
        return object

    @property
    def services(self) -> dict[str, Any]:
        """It names its services itself."""
        return {}

    def check_startable(self) -> None:
        """It can be started."""


def untimed(node: Any) -> Any:
    """Give a piece of a workflow in which no step has a time limit, and those of waits are long."""
    if isinstance(node, tuple):
        return tuple(untimed(x) for x in node)
    if not isinstance(node, Node):
        return node
    node = replace(node, **{f.name: untimed(getattr(node, f.name)) for f in fields(node) if f.name != "place"})
    if isinstance(node, Step):
        return replace(node, timeout_ms=None, timeout_then="ask", retry=None)
    if isinstance(node, Wait) and node.timeout is not None:
        return replace(node, timeout=("lit", WAIT_MS))
    return node


class Workload:
    """The runs of one world. `kind`: one of `KINDS`; `runs`: how many; `depth`: how deep workflows nest."""

    def __init__(self, seed: int, kind: str, *, runs: int = 2, depth: int = 2) -> None:
        self.seed, self.kind = seed, kind
        self.style = ORCHESTRATION if kind == "orchestrated" else CHOREOGRAPHY
        r = random.Random(f"workload {seed}")
        if kind == "hybrid" and r.random() < 0.5:
            self.style = ORCHESTRATION
        self.flows: list[Made] = []
        for i in range(runs):
            made = Maker(1_000 * seed + i).workflow(depth)
            if kind == "hybrid":
                tree = fit(replace(made, body=_as_seq(sectioned(made.body, random.Random(seed + i), [0]))))
            else:
                tree = fit(_without(made))
            self.flows.append(Made(replace(tree, name=f"made{i}", body=untimed(tree.body))))
        self.performances: dict[str, Performance] = {}  # by key
        self.done = Counter[str]()
        self.order: dict[int, dict[tuple[str, Round, str], int]] = {}  # by run: when each fact was first recorded
        self._world: World | None = None
        self._services = services(self)  # type: ignore[arg-type] # it is asked for `act` and `done` only

    @property
    def layout(self) -> Layout:
        """Lay it out: in one store that some workers share, or each service with one of its own."""
        r = random.Random(f"layout {self.seed} {self.kind}")
        styles = {flow.name: self.style for flow in self.flows}
        is_apart = r.random() < (0.3 if self.kind == "orchestrated" else 0.85)
        workers = r.choice((1, 2)) if is_apart else r.choice((1, 2, 3))
        return Layout(styles=styles, is_apart=is_apart, workers=workers)

    def build(self, world: World) -> App:
        """Make the app of one process."""
        self._world = world
        return App("made", services=self._services, workflows=self.flows)  # they keep nothing in memory

    # The services

    async def act(self, service: str, context: Context, given: tuple[Any, ...]) -> Any:
        """Answer as the oracle says, after a while, and often with an effect in the world outside."""
        world = self._world
        assert world is not None
        p = self.performances[context.key]
        n, r = p.nodes[context.position], world.chance.stream(f"act {service}")
        assert isinstance(n, Step)
        await asyncio.sleep(r.choice((0.0, 0.01, 0.3)) * r.random())
        if world.chance.strikes("failure", world.faults.failure):
            raise RuntimeError("down")
        direction = context.op_key.split(":")[3]
        label = "ok" if direction == "compensation" else p.oracle.step(n, context.round)
        if label != "ok":
            raise (Alpha if label == "rejected:a" else Beta)("no")
        bank = world.outside("bank")
        if r.random() < 0.5:
            what = f"{context.key} {context.position} {context.round} {direction}"
            await bank.call(what, context.op_key)
        if direction == "compensation":
            return None
        return p.oracle.result(n, context.round, list(given[: len(n.arguments)]))

    # The scenario

    async def perform(self, world: World) -> None:
        """Start all runs, and send them their events."""
        world.checks.append(self.check)
        for database in world.databases.values():
            database.on_recorded = self._watched(database.on_recorded)
        plans = world.plans(world.app)
        started = []
        for i, flow in enumerate(self.flows):
            key = f"k{i}"
            p = self.performances[key] = self._expected(i, flow.tree, plans[flow.name])
            started.append(asyncio.ensure_future(self._one(world, flow, key, p)))
        for task in started:
            await task
        await asyncio.sleep(world.chance.between("scenario", 0, 8 if world.layout.workers == 1 else 30))

    def _expected(self, i: int, tree: WorkflowTree, plan: Plan) -> Performance:
        """Say what a run must come to."""
        oracle, input_ = Patient(f"{self.seed} {i}"), 1_000 + i
        want = interpret(tree, oracle, input_)
        nodes = {n.position: n for n in _positions(tree.body)}
        return Performance(f"{self.kind} seed {self.seed} run {i}", plan, tree, nodes, oracle, input_, want)

    async def _one(self, world: World, flow: Made, key: str, p: Performance) -> None:
        await asyncio.sleep(world.chance.between("scenario", 0, 2 if world.layout.workers == 1 else 20))
        run = await world.client.start(flow, p.input, key=key)
        number = parse_run(run.id)
        assert number is not None
        p.run = number
        for (position, _), (event_key, when, says) in p.oracle.awaited.items():
            if when != "late":
                await asyncio.sleep(world.chance.between("scenario", 0, 1))
                await _tell(world, self._owner(p.plan, position), f"e{position}", event_key, says)

    def _owner(self, plan: Plan, position: str) -> str:
        who = next(rule.who for rule in plan.rules if rule.kind == "wait" and rule.position == position)
        assert self._world is not None
        return who if self._world.layout.is_apart and not is_conductor(who) else "home"

    def _watched(self, then: Any) -> Any:
        def recorded(process: str, decision: Decision) -> None:
            for f in decision.facts:
                at = self.order.setdefault(f.run, {})
                at.setdefault((f.position, tuple(map(int, f.round.split("."))) if f.round else (), f.label), len(at))
            then(process, decision)

        return recorded

    # What must have come of it

    def check(self, world: World) -> list[str]:
        """Say which runs did not come to what the interpreter says."""
        stores = world.stored()
        wrong = []
        for p in self.performances.values():
            try:
                self._compare(world, p, stores.get(p.run, {}))
            except AssertionError as e:
                wrong.append(f"I12: {p.name}: {str(e)[:600]}")
        return [*wrong, *self._effects(world)]

    def _compare(self, world: World, p: Performance, stored: dict[str, StoredRun]) -> None:
        assert "home" in stored, ("I11: what was acknowledged is not there", run_text(p.run))
        run = stored["home"].run
        parked = [s.run.reason for s in stored.values() if s.run.state == RunState.STUCK]
        if parked and all(_may_park(p.tree, reason) for reason in parked):
            return
        recorded = {fact: value for s in stored.values() for fact, value in _facts(s)}
        got, facts = without_plumbing(recorded, p.nodes), dict(leaves(p.want.trace))
        states = {name: (s.run.state, s.run.reason) for name, s in stored.items()}
        assert got == facts, ("facts", _difference(got, facts), _difference(facts, got), states)
        assert run.state in ENDED, ("unfinished", states)
        result: Any = msgspec.json.decode(run.result) if run.result else None
        if p.want.end == "failed":
            assert run.state == RunState.COMPENSATED, ("end", run, p.want.code)
            assert result["code"] == p.want.code, ("code", result, p.want.code)
        else:
            assert run.state == RunState.COMPLETED, ("end", run, p.want.value)
            assert result == p.want.value, ("result", result, p.want.value)
        at = {fact: n for fact, n in self.order.get(p.run, {}).items() if fact in facts}
        assert_in_order(p.want.trace, at)

    def _effects(self, world: World) -> list[str]:
        """Say what took effect twice, or was recorded and took none, in the services' own tables and at the bank."""
        wrong, effects = done_twice(world), written(world)
        recorded = set()
        for p in self.performances.values():
            for fact in self.order.get(p.run, {}):
                position, round_, label = fact
                if isinstance(p.nodes.get(position), Step) and label in ("ok", "compensated"):
                    direction = "forward" if label == "ok" else "compensation"
                    recorded.add(op_key(p.run, position, round_, direction))
        wrong += [f"I3: {op} was recorded, and not done" for op in recorded - effects.keys() - self.done.keys()]
        wrong += [f"I1: {op} was written, and not recorded" for op in effects.keys() - recorded]
        return sorted(wrong)


def _facts(stored: StoredRun) -> Iterator[tuple[tuple[str, Round, str], Any]]:
    for f in stored.facts:
        round_ = tuple(map(int, f.round.split("."))) if f.round else ()
        yield (f.position, round_, f.label), (msgspec.json.decode(f.value) if f.value else None)


async def _tell(world: World, where: str, event: str, key: str, says: int) -> None:
    """Have an event recorded by a process of this participant, and asked again until it says so."""
    while True:
        up: Sequence[Member] = [m for m in world.members if m.address == where and m.is_up]
        if up:
            member = world.chance.pick("client", up)
            assert member.process is not None
            told = member.process.spawn(_record(member, event, key, says))
            done, _ = await asyncio.wait([told], timeout=5)
            told.cancel()
            if done and not told.cancelled() and not isinstance(told.exception(), StoreError):
                told.result()
                return
        await asyncio.sleep(0.2)


async def _record(member: Member, event: str, key: str, says: int) -> None:
    assert member.host is not None
    participant, now = member.host.participant, member.host.participant.clock.now_ms()
    row = InboxRow("/outside", f"{event} {key}", event, 1, key, str(says), "kept", None, None, None, now, now + 10**10)
    decision = Decision()
    decision.inbox = [row]
    try:
        await participant.record(decision)
    except Conflict:
        return  # it is there already
    participant.matcher.look_at(event, key)
