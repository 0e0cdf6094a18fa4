"""A workflow is changed while runs of it are in flight: each ends under the plan that it began with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minuet import App, Service, Workflow, action, event, wait_for, workflow

RUNS = 10


@event("gate.opened", version=1, key="run")
@dataclass(frozen=True)
class Opened:
    run: str


class Work(Service):
    def __init__(self) -> None:
        self.done: dict[str, list[str]] = {}

    def note(self, run: str, what: str) -> str:
        self.done.setdefault(run, []).append(what)
        return what

    @action
    async def first(self, run: str) -> str:
        return self.note(run, "first")

    @action
    async def second(self, run: str) -> str:
        return self.note(run, "second")

    @action
    async def third(self, run: str) -> str:
        return self.note(run, "third")


@workflow(name="flow")
async def as_it_was(run: str, *, work: Work) -> str:
    a = await work.first(run)
    await wait_for(Opened, key=run)
    b = await work.second(run)
    return f"{a} {b}"


@workflow(name="flow")
async def a_step_more(run: str, *, work: Work) -> str:
    a = await work.first(run)
    c = await work.third(run)
    await wait_for(Opened, key=run)
    b = await work.second(run)
    return f"{a} {c} {b}"


@workflow(name="flow")
async def a_step_less(run: str, *, work: Work) -> str:
    a = await work.first(run)
    await wait_for(Opened, key=run)
    return a


@workflow(name="flow")
async def another_order(run: str, *, work: Work) -> str:
    b = await work.second(run)
    await wait_for(Opened, key=run)
    a = await work.first(run)
    return f"{b} {a}"


@workflow(name="flow")
async def another_action(run: str, *, work: Work) -> str:
    a = await work.first(run)
    await wait_for(Opened, key=run)
    c = await work.third(run)
    return f"{a} {c}"


@workflow(name="flow")
async def a_condition(run: str, *, work: Work) -> str:
    a = await work.first(run)
    if a == "first":
        return "at once"
    await wait_for(Opened, key=run)
    return a


@workflow(name="flow")
async def other_names(identity: str, *, work: Work) -> str:
    begun = await work.first(identity)  # the same plan but for the names of its variables
    await wait_for(Opened, key=identity)
    ended = await work.second(identity)
    return f"{begun} {ended}"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changed", "gives"),
    [
        (a_step_more, "first third second"),
        (a_step_less, "first"),
        (another_order, "second first"),
        (another_action, "first third"),
        (a_condition, "at once"),
        (other_names, "first second"),
    ],
    ids=lambda value: value.function.__name__ if isinstance(value, Workflow) else "",
)
async def test_runs_in_flight_end_under_the_plan_they_began_with(
    changed: Workflow[str, Any, str], gives: str, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/flow.db"
    work = Work()
    async with App("flow", services=[work], workflows=[as_it_was], store=store) as app:
        for n in range(RUNS):
            await app.start(as_it_was, f"old-{n}", key=f"old-{n}")
    async with App("flow", services=[work], workflows=[changed], store=store) as app:
        for n in range(RUNS):
            await app.start(changed, f"new-{n}", key=f"new-{n}")
        for n in range(RUNS):
            for age in ("old", "new"):
                await app.send(Opened(f"{age}-{n}"))
        for n in range(RUNS):
            assert await (await app.find(changed, f"old-{n}")).result() == "first second"
            assert await (await app.find(changed, f"new-{n}")).result() == gives
            assert list(dict.fromkeys(work.done[f"old-{n}"])) == ["first", "second"]  # a plain step may run again
