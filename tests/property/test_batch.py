"""What was found by the random performances of `hosted`, as small as it gets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minuet.contracts.envelope import Envelope
from minuet.engine import decide
from minuet.engine.program import Program
from minuet.engine.row import Decision, FactRow
from minuet.plans.placement import CHOREOGRAPHY, ORCHESTRATION, Placement
from minuet.plans.plan import make_plan
from minuet.runtime.memory import Memory
from minuet.runtime.participant import Participant
from minuet.workflows.tree import Node, Par, Reject, Return, Seq, Step, Wait, WorkflowTree
from tests.property.acting import Performance, performance
from tests.property.batch import HOME, Batch, How
from tests.property.hosted import check
from tests.property.maker import HERE

STYLES = (ORCHESTRATION, CHOREOGRAPHY)


def step(position: str, service: str, **more: Any) -> Step:
    return Step(
        place=HERE,
        position=position,
        service=service,
        action="do",
        arguments=(),
        out=f"v{position}",
        compensation=("s0", "undo"),
        **more,
    )


def given(style: str, *parts: Node, runs: int = 1) -> list[Performance]:
    """Give runs of a workflow in whose world all goes well."""
    body = Seq(place=HERE, parts=(*parts, Return(place=HERE, value=("var", "x"))))
    tree = WorkflowTree(name="made", file="", input=("x", "int"), result_shape="int", services={}, body=body)
    plan = make_plan(tree, Placement(root=style))
    return [performance(f"{style} {i}", plan, tree, "well", 1_000 + i) for i in range(runs)]


class Kept:
    """The messages that a batch has published."""

    def __init__(self, batch: Batch) -> None:
        self.envelopes: list[Envelope] = []
        self.batch = batch
        publish = batch.broker.publish

        async def kept(envelopes: Any) -> None:
            self.envelopes += envelopes
            await publish(envelopes)

        batch.broker.publish = kept  # type: ignore[method-assign, assignment]

    def come_again(self, group: str, wanted: Callable[[Envelope], bool]) -> int:
        again = [e for e in self.envelopes if wanted(e)]
        for envelope in again:
            self.batch.broker.soon(self.batch.broker.groups[group], envelope)
        return len(again)


def is_fact(envelope: Envelope) -> bool:
    return "minuetlabel" in envelope.attributes


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.asyncio
async def test_an_abandoned_step_is_taken_back_by_another_service_that_has_only_heard_the_verdict(style: str) -> None:
    first = step("1", "s3", timeout_ms=10_000, timeout_then="abandon")
    _, differences = await check(
        How(seed=1), given(style, first, step("2", "s1"), Reject(place=HERE, position="3", code="a"))
    )
    assert not differences


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.asyncio
async def test_messages_that_come_once_more_when_a_run_has_ended_are_acknowledged(style: str) -> None:
    batch = Batch(How(seed=1), given(style, step("1", "s1"), step("2", "s2")))
    kept = Kept(batch)
    try:
        await batch.perform()
        for name in (HOME, "s1", "s2"):
            kept.come_again(name, is_fact)
        await batch.calm()
        for name, host in batch.hosts.items():
            assert not batch.broker.groups[name].open
            assert not host.participant.runs
            assert not await batch.shelves[name].inner.early(None, 1)
    finally:
        await batch.close()


@pytest.mark.asyncio
async def test_a_message_of_an_ended_run_whose_rows_are_damaged_is_kept() -> None:
    batch = Batch(How(seed=1), given(ORCHESTRATION, step("1", "s1")))
    kept = Kept(batch)
    try:
        await batch.perform()
        decision = Decision()
        decision.facts = [FactRow(batch.performances[0].run, "nowhere", "", 0, "ok", None, 99, 0)]
        batch.shelves[HOME].record(decision, lambda: None)
        await batch.calm()
        assert kept.come_again(HOME, lambda e: e.attributes.get("minuetlabel") == "ok")
        await batch.calm()
        assert len(await batch.shelves[HOME].inner.early(None, 5)) == 1
    finally:
        await batch.close()


def met_by_many_messages() -> list[Performance]:
    branches = tuple(step(f"1{name}", f"s{1 + i % 3}") for i, name in enumerate("abcdef"))
    both = Par(place=HERE, position="1", branches=branches, results=tuple(b.out for b in branches), out="$1")
    return given(CHOREOGRAPHY, both, step("2", "s0"), runs=40)


@pytest.mark.parametrize("runs_in_memory", [1, 3])
@pytest.mark.asyncio
async def test_a_run_that_several_messages_tell_of_at_once_is_met_once(runs_in_memory: int) -> None:
    _, differences = await check(How(seed=1, runs_in_memory=runs_in_memory), met_by_many_messages())
    assert not differences


def test_a_run_that_was_just_taken_up_is_not_forgotten_before_it_can_be_used() -> None:
    program = Program(given(ORCHESTRATION, step("1", "s1"))[0].plan)
    memory = Memory(1)
    busy, idle, asked = (decide.meet(program, run, "", HOME, 0) for run in (1, 2, 3))
    memory.keep(busy)
    for k in (idle, asked):
        memory.keep(k)
        memory.release(k)
        assert memory.runs == {1: busy, k.run: k}


async def paused_while_it_was_read() -> bool:
    """Have a run paused and forgotten while it is read from the store; say whether whoever read it knows."""
    wait = Wait(place=HERE, position="1", event="e", version=1, key=("lit", "k"), out="v1", by="s1")
    waiting = given(ORCHESTRATION, wait)
    waiting[0].oracle.awaited["1", ()] = ("k", "late", 0)  # its event never comes
    batch = Batch(How(seed=1, runs_in_memory=1), waiting)
    try:
        await batch.perform()
        participant, run = batch.hosts[HOME].participant, batch.performances[0].run
        life, is_read, may_go_on = batch.shelves[HOME].life, asyncio.Event(), asyncio.Event()
        assert life is not None

        async def slowly(read: Any) -> Any:
            found = await read
            is_read.set()
            await may_go_on.wait()
            return found

        participant.memory.make_room()
        life.slowly = slowly  # type: ignore[method-assign]
        reading = asyncio.get_running_loop().create_task(participant.load(run))
        await is_read.wait()
        stored = await batch.shelves[HOME].inner.load_run(run)
        assert stored is not None
        k = participant.recall(stored, crashed=True)
        assert k is not None
        paused = decide.pause(k, 0)
        done = participant.acknowledge(paused)
        participant.submit(paused)
        await done
        assert participant.memory.make_room()
        may_go_on.set()
        found = await reading
        assert found is not None
        return bool(found.paused)
    finally:
        await batch.close()


@pytest.mark.asyncio
async def test_a_run_is_not_taken_up_from_rows_that_are_too_old() -> None:
    assert await paused_while_it_was_read()


@pytest.mark.asyncio
async def test_it_would_be_if_nobody_looked_what_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def reading(_: Participant) -> Iterator[set[int]]:
        yield set()

    monkeypatch.setattr(Participant, "reading", reading)
    assert not await paused_while_it_was_read()
