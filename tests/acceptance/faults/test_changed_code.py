"""A workflow's code is changed while runs are in flight: each ends under the plan with which it began (F23)."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from minuet import App
from minuet.testing.clock import ManualClock

pytestmark = pytest.mark.asyncio

IN_FLIGHT = 50

SERVICE = """
from dataclasses import dataclass
from datetime import timedelta
from minuet import Service, action, each, event, sleep, together, wait_for, workflow

@event("go.on", version=1, key="run")
@dataclass(frozen=True)
class GoOn:
    run: str

class Steps(Service):
    @action
    async def first(self, x: str) -> str:
        return x + "1"
    @action
    async def second(self, x: str) -> str:
        return x + "2"
    @action
    async def third(self, x: str) -> str:
        return x + "3"
"""

BEFORE = """
@workflow
async def walk(run: str, *, steps: Steps) -> str:
    x = await steps.first(run)
    a, b = await together(steps.second(x), steps.third(x))
    for _ in range(3):
        x = await steps.second(x)
    await wait_for(GoOn, key=run, by=steps)
    done = await each([a, b], lambda one: steps.third(one), limit=5)
    await sleep(timedelta(hours=1), by=steps)
    return await steps.third(x + done[0] + done[1])
"""

# What a developer does to it, and what new runs then give.
CHANGES: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "insert a step": (
        lambda t: t.replace("    await wait_for", "    x = await steps.first(x)\n    await wait_for"),
        lambda r: f"{r}12221{r}123{r}1333",
    ),
    "drop a step": (
        lambda t: t.replace("x = await steps.first(run)", "x = run"),
        lambda r: f"{r}222{r}23{r}333",
    ),
    "swap two steps": (
        lambda t: t.replace("steps.second(x), steps.third(x)", "steps.third(x), steps.second(x)"),
        lambda r: f"{r}1222{r}133{r}1233",
    ),
    "rename the variables": (
        lambda t: t.replace("x =", "value =").replace("(x", "(value"),
        lambda r: f"{r}1222{r}123{r}1333",
    ),
    "change the bound of the loop": (
        lambda t: t.replace("range(3)", "range(1)"),
        lambda r: f"{r}12{r}123{r}1333",
    ),
    "leave out the wait": (
        lambda t: t.replace("    await wait_for(GoOn, key=run, by=steps)\n", ""),
        lambda r: f"{r}1222{r}123{r}1333",
    ),
    "write it anew": (
        lambda t: t[: t.index("    x = await")] + "    return await steps.third(run)\n",
        lambda r: f"{r}3",
    ),
}


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Import a text as a module of its own: a release of the program."""
    made: list[str] = []
    numbers = itertools.count(1)

    def load(text: str) -> ModuleType:
        name = f"release_{next(numbers)}"
        file = tmp_path / f"{name}.py"
        file.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in made:
        del sys.modules[name]


def app_of(module: ModuleType, folder: Path, clock: ManualClock) -> App:
    return App(
        "walks",
        services=[module.Steps()],
        workflows=[module.walk],
        store=f"sqlite:///{folder / 'walks.db'}",
        clock=clock,
    )


async def all_at(runs: list[Any], what: str) -> None:
    """Wait until all runs wait for this."""

    async def one_at(run: Any) -> None:
        while [w.what for w in await run.waiting()] != [what]:
            await asyncio.sleep(0.05)

    async with asyncio.timeout(60):
        await asyncio.gather(*map(one_at, runs))


@pytest.mark.parametrize("change", CHANGES)
async def test_runs_in_flight_end_under_the_plan_they_began_with(
    change: str, release: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    edit, expected = CHANGES[change]
    clock, old, new = ManualClock(), release(SERVICE + BEFORE), release(SERVICE + edit(BEFORE))
    keys = [f"r{n}" for n in range(IN_FLIGHT)]
    async with app_of(old, tmp_path, clock) as app:
        runs = await asyncio.gather(*(app.start(old.walk, key, key=key) for key in keys))
        await all_at(runs, "event")
        await asyncio.gather(*(app.send(old.GoOn(key)) for key in keys[::2]))
        await all_at(runs[::2], "timer")

    async with app_of(new, tmp_path, clock) as app:
        fresh = await app.start(new.walk, "fresh", key="fresh")
        await asyncio.gather(*(app.send(new.GoOn(key)) for key in ["fresh", *keys[1::2]]))
        runs = await asyncio.gather(*(app.find(new.walk, key) for key in keys))
        await all_at(runs, "timer")
        await clock.advance(timedelta(hours=2))
        async with asyncio.timeout(60):
            for key, run in zip(keys, runs, strict=True):
                assert await run.result() == f"{key}1222{key}123{key}1333"
            assert await fresh.result() == expected("fresh")
        plans = {p.current: p for p in await app.control.plans()}
        if edit(BEFORE) != BEFORE and change != "rename the variables":
            assert len(plans) == 2
            assert plans[False].digest != plans[True].digest


async def test_an_action_that_is_gone_parks_its_runs_and_says_so(
    release: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    clock, old = ManualClock(), release(SERVICE + BEFORE)
    without = SERVICE[: SERVICE.index("    @action\n    async def third")]
    new = release(
        without + "\n@workflow\nasync def walk(run: str, *, steps: Steps) -> str:\n    return await steps.first(run)\n"
    )
    async with app_of(old, tmp_path, clock) as app:
        run = await app.start(old.walk, "r1", key="r1")
        await all_at([run], "event")
        await app.send(old.GoOn("r1"))
        await all_at([run], "timer")

    async with app_of(new, tmp_path, clock) as app:
        await clock.advance(timedelta(hours=2))
        async with asyncio.timeout(60):
            view = await app.control.wait(run.id, None)
        assert view.state == "stuck"
        assert view.reason is not None
        assert "no service here offers steps.third" in view.reason
        assert [f.key for f in await app.control.failed()] == ["r1"]
        assert await app.run(new.walk, "fresh") == "fresh1"

    async with app_of(old, tmp_path, clock) as app:  # the release that has it
        again = await app.find(old.walk, "r1")
        await again.retry()
        assert await again.result(60) == "r11222r1123r11333"
