"""The pytest plugin, as users have it: with pytest-asyncio, with anyio's plugin, and with neither."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
TEST = """
from __future__ import annotations

import asyncio

import pytest

from minuet import Service, action, workflow
from minuet.testing import Kit, Simulation, simulate, styles

MARK


class Tea(Service):
    @action(pure=True)
    async def brew(self, minutes: int) -> str:
        return f"{minutes} minutes"


@workflow
async def drink(minutes: int, *, tea: Tea) -> str:
    return await tea.brew(minutes)


async def test_a_kit(minuet: Kit) -> None:
    run = await minuet.perform(drink, 4, services=[Tea()])
    assert await run.result() == "4 minutes"
    await asyncio.sleep(0)


@styles
async def test_each_style(minuet: Kit, tmp_path: object) -> None:
    assert await (await minuet.perform(drink, 4, services=[Tea()])).result() == "4 minutes"


class TestInAClass:
    async def test_a_kit(self, minuet: Kit) -> None:
        assert await (await minuet.perform(drink, 4, services=[Tea()])).status() == "completed"

    @simulate(drink, seeds=2)
    async def test_worlds(self, sim: Simulation) -> None:
        await sim.start(drink, 4, services=[Tea()])


@pytest.fixture
def minutes() -> int:
    return 4


@simulate(drink, seeds=4, faults="crash")
async def test_worlds(sim: Simulation, minutes: int) -> None:
    run = await sim.start(drink, minutes, services=lambda: [Tea()])
    sim.always(lambda: sim.world.seed != 3, "this is not the fourth world")
    print("world", sim.world.seed)
"""


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("", ["-p", "no:asyncio", "-p", "no:anyio"]),
        ("", [*SCOPE, "-o", "asyncio_mode=strict"]),
        ("", [*SCOPE, "-o", "asyncio_mode=auto"]),
        ("pytestmark = pytest.mark.asyncio", [*SCOPE, "-o", "asyncio_mode=strict"]),
        ("pytestmark = pytest.mark.anyio", ["-p", "no:asyncio"]),
    ],
    ids=["alone", "asyncio strict", "asyncio auto", "asyncio marked", "anyio"],
)
def test_async_tests_are_run_by_whoever_is_there(tmp_path: Path, mark: str, options: list[str]) -> None:
    done = run(tmp_path, mark, *options, "-k", "not worlds or InAClass", "-W", "error")
    assert " passed" in done, done
    assert "failed" not in done, done
    assert "error" not in done, done


def test_a_failure_is_told_with_the_line_that_repeats_it(tmp_path: Path) -> None:
    whole = run(tmp_path, "", "-k", "test_worlds and not InAClass")
    assert "this is not the fourth world does not hold" in whole
    assert "Again: pytest test_tea.py::test_worlds --minuet-seed 3 --minuet-only none" in whole
    again = run(tmp_path, "", "test_tea.py::test_worlds", "--minuet-seed", "3", "--minuet-only", "none")
    assert "this is not the fourth world does not hold" in again
    assert "1 failed" in again


def test_how_many_seeds_is_said_on_the_command_line(tmp_path: Path) -> None:
    done = run(tmp_path, "", "test_tea.py::test_worlds", "--minuet-seeds", "3", "-s")
    assert "1 passed" in done
    assert "world 2" in done
    assert "world 3" not in done


def test_the_plugin_is_found_by_its_entry_point_and_loads_nothing_else() -> None:
    (found,) = [e for e in entry_points(group="pytest11") if e.name == "minuet"]
    assert found.value == "minuet.testing.plugin"
    code = "import sys, minuet.testing.plugin; print([m for m in sys.modules if m.startswith('minuet.testing.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "['minuet.testing.plugin']"
    code = "import sys, minuet; print([m for m in sys.modules if m.startswith(('minuet.testing', 'pytest'))])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def run(folder: Path, mark: str, *options: str) -> str:
    (folder / "test_tea.py").write_text(TEST.replace("MARK", mark))
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
