"""The pytest plugin: the fixture `minuet`, and the options of `@simulate`. Loaded by pytest, and by nobody else.

A test may be async under pytest-asyncio or anyio's plugin, or without either: one that asks for `minuet`, and that
nobody else runs, is run here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from minuet.testing.kit import Kit
    from minuet.testing.simulating import Options

FIXTURE = "minuet"
_OTHERS = ("asyncio", "anyio", "trio")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("minuet", "simulated worlds")
    group.addoption("--minuet-seed", type=int, metavar="N", help="Repeat one seed of tests under @simulate.")
    group.addoption("--minuet-seeds", type=int, metavar="N", help="How many seeds each test under @simulate tries.")
    group.addoption(
        "--minuet-only", metavar="FAULTS", help="With --minuet-seed: only these faults, as crash#2,pause#1."
    )


@pytest.fixture
def minuet(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Give a `Kit`, performed as `@styles` says; what it has opened is closed after the test."""
    from minuet.testing.kit import Kit  # noqa: PLC0415 - pytest loads this plugin everywhere

    with Kit(getattr(request, "param", None)) as kit:
        yield kit


@pytest.fixture
def minuet_options(request: pytest.FixtureRequest) -> Options:
    """Give what the command line says about seeds, and how a test is named there."""
    from minuet.testing.simulating import Options  # noqa: PLC0415 - as above

    option = request.config.getoption
    only = option("--minuet-only")
    return Options(
        seed=option("--minuet-seed"),
        seeds=option("--minuet-seeds"),
        only=None if only is None else tuple(name for name in only.split(",") if name),
        test=request.node.nodeid,
    )


def in_each(variants: Sequence[object]) -> pytest.MarkDecorator:
    """Have a test performed with a kit of each of these variants."""
    return pytest.mark.parametrize(FIXTURE, variants, ids=str, indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have pytest-asyncio say nothing of a test under `@simulate` in a module that is marked: it has its own loop."""
    if getattr(getattr(item, "obj", None), "minuet_simulated", False):
        item.add_marker(pytest.mark.filterwarnings("ignore:The test .* is marked with '@pytest.mark.asyncio'"))


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that asks for `minuet`, where no other plugin does."""
    test: Any = pyfuncitem.obj
    if FIXTURE not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(test):
        return None
    if "anyio_backend" in pyfuncitem.fixturenames or any(pyfuncitem.get_closest_marker(name) for name in _OTHERS):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames  # noqa: SLF001 - as every plugin that runs tests has to
    asyncio.run(test(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
