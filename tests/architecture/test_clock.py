"""Time, waiting and randomness come from the clock that is handed in, so that a test can hand in another one."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import Module, modules, uses

# Either all names of a module, or one name.
FORBIDDEN = (
    "asyncio.sleep",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "os.getrandom",
    "os.urandom",
    "random",
    "secrets",
    "time.clock_gettime",
    "time.clock_gettime_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.process_time",
    "time.sleep",
    "time.thread_time",
    "time.time",
    "time.time_ns",
    "uuid.uuid1",
    "uuid.uuid4",
    "uuid.uuid6",
    "uuid.uuid7",
    "uuid.uuid8",
)

# Who may, and why. Nobody else: a run must be repeatable from its facts and the clock it was given.
ALLOWED: dict[str, str] = {
    "runtime/clock.py": "is the system's clock: reads time, waits, and draws the random part of new ids",
    "runtime/http_client.py": "waits before it asks another process again; it is no part of a participant",
    "testing/assertion.py": "waits until a condition holds, in the time of whichever loop a test has",
    "testing/clock.py": "is the clock that tests move",
    "testing/outcomes.py": "lets an attempt take longer, in simulated time",
    "testing/simulated.py": "looks again until nothing happens any more, in simulated time",
    "testing/simulating.py": "lets a simulated world go on, in simulated time",
    "testing/simulation/chance.py": "draws all chance of a simulated world, from its seed",
    "testing/simulation/clock.py": "is the clock of a simulated process: waits in simulated time",
    "tools/cli/runs.py": "a person watches: waits before it looks again",
    "tools/progress.py": "a person watches: waits before it draws again",
}


def readings(module: Module) -> list[str]:
    return [
        f"src/minuet/{module.path}:{use.line} {use.name}"
        for use in uses(module.tree)
        if any(use.name == name or use.name.startswith(f"{name}.") for name in FORBIDDEN)
    ]


def test_only_the_clock_reads_time_waits_or_draws() -> None:
    assert [found for module in modules() if module.path not in ALLOWED for found in readings(module)] == []


@pytest.mark.parametrize("path", sorted(ALLOWED))
def test_who_may_read_time_does(path: str) -> None:
    """An entry that nobody needs any more would let the next reading pass unseen."""
    assert [found for module in modules() if module.path == path for found in readings(module)] != []


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "from time import time_ns as now\nnow()",
        "import datetime as d\nd.datetime.now(d.UTC)",
        "from datetime import datetime\ndatetime.now()",
        "import random",
        "from random import Random",
        "from uuid import uuid4",
        "import secrets\nsecrets.token_hex()",
        "import asyncio\nasync def f():\n    await asyncio.sleep(1)",
        "import os\nos.urandom(8)",
    ],
)
def test_the_search_can_fail(text: str) -> None:
    assert readings(Module(path="planted.py", tree=ast.parse(text)))


@pytest.mark.parametrize(
    "text", ["clock.time()", "from datetime import datetime\ndatetime.fromisoformat('')", "sleep(1)"]
)
def test_the_search_takes_only_what_it_means(text: str) -> None:
    assert not readings(Module(path="planted.py", tree=ast.parse(text)))
