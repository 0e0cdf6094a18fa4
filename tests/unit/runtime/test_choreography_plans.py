"""A plan is known to everybody whom it names before a run takes it, and to nobody when it is retired."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minuet import App, Conflict, NotFound, Service, action, workflow
from minuet.errors import NotActive
from minuet.plans.placement import Placement
from minuet.plans.plan import Plan, make_plan
from minuet.runtime.view import PlanView
from minuet.workflows.tree import Seq, Step, WorkflowTree
from tests.property.maker import HERE
from tests.unit.runtime.apart import C, apart, rows, until, until_quiet

pytestmark = pytest.mark.asyncio


class Bell(Service):
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    @action
    async def ring(self, times: int) -> int:
        await self.gate.wait()
        return times


class Choir(Service):
    @action
    async def sing(self, times: int) -> str:
        return "la" * times

    @action
    async def hum(self, times: int) -> str:
        return "mm" * times


class Mute(Service, name="choir"):
    """An earlier release of the choir, which cannot hum."""

    @action
    async def sing(self, times: int) -> str:
        return "la" * times


@workflow(name="evening")
async def sung(times: int, *, bell: Bell, choir: Choir) -> str:
    rung = await bell.ring(times)
    return await choir.sing(rung)


@workflow(name="evening")
async def hummed(times: int, *, bell: Bell, choir: Choir) -> str:
    rung = await bell.ring(times)
    return await choir.hum(rung)


def plan_of(flow: Any) -> Plan:
    return make_plan(flow.tree, Placement(root=C))


def evening(tmp_path: Path, bell: Bell | None = None) -> Any:
    return apart(tmp_path, [bell or Bell(), Choir()], [sung], styles={"evening": C})


async def deploy(app: App, flow: Any) -> Plan:
    """Have home run another release of the workflow."""
    plan = plan_of(flow)
    await app.hosts.stop_home()
    app.control._plans, app.control._workflows = {"evening": plan}, {"evening": flow}
    await app.hosts.start_home([plan])
    return plan


async def begun(app: App, times: int, key: str) -> str:
    view, _ = await app.control.start("evening", msgspec.json.encode(times), key=key)
    return view.run


async def plans(app: App) -> dict[str, PlanView]:
    return {p.digest: p for p in await app.control.plans()}


async def test_runs_of_a_new_plan_begin_when_everybody_has_acknowledged_and_others_go_on(tmp_path: Path) -> None:
    bell = Bell()
    async with evening(tmp_path, bell) as app:
        bell.gate.clear()
        old = await begun(app, 1, "old")
        await app.hosts.stop("choir")
        plan = await deploy(app, hummed)
        with pytest.raises(NotActive, match="M603") as refused:
            await begun(app, 2, "new")
        assert refused.value.subject["missing"] in ("choir", "bell, choir")

        async def bell_has() -> bool:
            return set(app.hosts.home.activation.missing(plan.digest)) == {"choir"}

        await until(bell_has)
        shown = (await plans(app))[plan.digest].participants
        assert [(p.participant, p.acknowledged_at_ms is not None) for p in shown] == [("bell", True), ("choir", False)]
        bell.gate.set()
        await app.hosts.start("choir")
        assert (await app.control.wait(old, 10)).result == "la", "it keeps its plan"

        async def all_have() -> bool:
            return not app.hosts.home.activation.missing(plan.digest)

        await until(all_have)
        assert (await app.control.wait(await begun(app, 2, "new"), 10)).result == "mmmm"
        assert all(p.acknowledged_at_ms for p in (await plans(app))[plan.digest].participants)


async def test_what_was_acknowledged_is_known_after_a_restart_without_asking_again(tmp_path: Path) -> None:
    async with evening(tmp_path) as app:
        await app.hosts.stop("choir")
        await app.hosts.stop_home()
        await app.hosts.start_home()
        run = await begun(app, 1, "k")  # the choir is away, and has acknowledged long ago
        await app.hosts.start("choir")
        assert (await app.control.wait(run, 10)).result == "la"


async def test_a_participant_that_cannot_take_a_plan_says_why(tmp_path: Path) -> None:
    async with evening(tmp_path) as app:
        await app.hosts.stop("choir")
        app.hosts._apart["choir"] = Mute()
        await app.hosts.start("choir")
        plan = await deploy(app, hummed)

        async def is_refused() -> bool:
            return any(p.refused for p in (await plans(app))[plan.digest].participants)

        await until(is_refused)
        with pytest.raises(NotActive, match=r"choir.*choir does not offer hum"):
            await begun(app, 1, "k")
        await app.hosts.stop("choir")
        app.hosts._apart["choir"] = Choir()
        await app.hosts.start("choir")
        await app.hosts.stop_home()
        await app.hosts.start_home()  # it asks again

        async def all_have() -> bool:
            return not app.hosts.home.activation.missing(plan.digest)

        await until(all_have)
        assert (await app.control.wait(await begun(app, 1, "k"), 10)).result == "mm"


async def test_facts_of_a_plan_that_is_not_known_are_kept_found_and_taken_when_it_comes(tmp_path: Path) -> None:
    async with evening(tmp_path) as app:
        await app.hosts.stop("choir")
        plan = await deploy(app, hummed)
        await until_quiet(app)
        choir = await app.hosts.start("choir")
        await _told(app, plan)
        choir.participant.programs.pop(plan.digest)  # as if the message had not come: nothing guards this but order
        choir.exchange.forget(plan.digest)
        choir.exchange.on_unknown_plan = lambda *_: None
        run = await begun(app, 1, "k")

        async def is_kept() -> bool:
            return [row.digest for row in await choir.store.early(None, 9)] == [plan.digest]

        await until(is_kept)
        (failed,) = await app.control.failed()
        assert (failed.kind, failed.key) == ("message", "k")
        assert "not known here yet" in failed.reason
        await choir.activation.learn(plan)
        assert (await app.control.wait(run, 10)).result == "mm"
        assert await app.control.failed() == []


async def test_whoever_hears_of_an_unknown_plan_asks_for_it(tmp_path: Path) -> None:
    async with evening(tmp_path) as app:
        await app.hosts.stop("choir")
        plan = await deploy(app, hummed)
        await until_quiet(app)
        choir = await app.hosts.start("choir")
        await _told(app, plan)
        choir.participant.programs.pop(plan.digest)
        choir.exchange.forget(plan.digest)
        assert (await app.control.wait(await begun(app, 1, "k"), 10)).result == "mm"


async def _told(app: App, plan: Plan) -> None:
    async def all_have() -> bool:
        return not app.hosts.home.activation.missing(plan.digest)

    await until(all_have)


async def test_a_plan_is_retired_when_no_run_has_it_and_then_everywhere(tmp_path: Path) -> None:
    bell = Bell()
    async with evening(tmp_path, bell) as app:
        first = plan_of(sung)
        bell.gate.clear()
        run = await begun(app, 1, "old")
        with pytest.raises(Conflict, match="new runs of evening take"):
            await app.control.retire(first.digest)
        plan = await deploy(app, hummed)
        await _told(app, plan)
        with pytest.raises(Conflict, match="M605: 1 unfinished run has"):
            await app.control.retire(first.digest)
        bell.gate.set()
        assert (await app.control.wait(run, 10)).result == "la"
        await app.hosts.stop("choir")
        assert (await app.control.retire(first.digest[:8])).outcome == "retired"
        assert set(await plans(app)) == {plan.digest}
        with pytest.raises(NotFound):
            await app.control.retire(first.digest)
        choir = await app.hosts.start("choir")
        await until_quiet(app)
        choir_knows = [row.digest for row in await choir.store.plans()]
        assert first.digest in choir_knows, "it is not drained as far as the choir knows"
        await choir.remote.ask()  # as it does each minute

        async def is_gone() -> bool:
            return all(
                [digest for (digest,) in rows(tmp_path, s, "select digest from minuet_plan")] == [plan.digest]
                for s in ("", "bell", "choir", "observer")
            )

        for host in app.hosts.services:
            await host.remote.ask()
        await until(is_gone, seconds=30)
        assert (await app.control.show(run)).state == "completed", "its runs can still be seen"
        assert (await app.control.wait(await begun(app, 2, "new"), 10)).result == "mmmm"


async def test_a_plan_of_one_store_is_retired_there(tmp_path: Path) -> None:
    for flow in (sung, hummed):
        async with apart(tmp_path, [Bell(), Choir()], [flow], per_service=False) as app:
            known = {p.current: p.digest for p in await app.control.plans()}
            if flow is hummed:
                await app.control.retire(known[False])
                assert [p.current for p in await app.control.plans()] == [True]


async def test_whoever_takes_back_what_another_was_given_up_for_knows_the_plan_too() -> None:
    step = Step(
        place=HERE, position="1", service="bell", action="ring", arguments=(), out="x", timeout_ms=1_000,
        timeout_then="abandon", compensation=("verger", "hush"),
    )  # fmt: skip
    body = Seq(place=HERE, parts=(step,))
    tree = WorkflowTree(name="w", file="", input=None, result_shape="", services={}, body=body)
    assert make_plan(tree, Placement(root=C)).services() == {"bell": {"ring"}, "verger": {"hush"}}
