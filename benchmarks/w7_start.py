"""W7: from the start of a process to the end of its first run; memory when idle; and what `import minuet` takes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.contest import SYNCED, Bar, Entry, Figures, Work, ratio
from benchmarks.meter import resident_mb
from benchmarks.peer.entries import SYSTEMS, peers
from benchmarks.w7_program import sequence
from minuet import Client

IDLE_S = 0.5
_RUN = "from minuet.tools.cli.main import main; main()"
_IMPORT = """
import json, sys, time
began_s = time.perf_counter()
import minuet
import_ms = (time.perf_counter() - began_s) * 1000
heavy = {"click", "httpx", "pydantic", "starlette", "uvicorn"} & set(sys.modules)
assert not heavy, f"`import minuet` loads {heavy}"
print(json.dumps({"import_ms": import_ms}))
"""


def first_run(folder: Path, shared: Path, size: int) -> Figures:
    """Measure a process over a store with `size` ended runs."""
    figures = started(Path(__file__).with_name("w7_program.py"), folder / "w7.db", size)
    return {**figures, **_told("-c", _IMPORT)}


def started(program: Path, store: Path, size: int) -> Figures:
    """Fill a store in one process; start another, and tell when its first run had ended."""
    _told(str(program), str(store), str(size), "0")  # also: its bytecode is there, as after an installation
    started_at = time.monotonic()
    told = _told(str(program), str(store), "1", str(IDLE_S))
    return {"secs": told["ended_at"] - started_at, "idle_mb": told["idle_mb"]}


def first_run_asked(folder: Path, shared: Path, size: int) -> Figures:
    """Measure `minuet run` over a store with `size` ended runs; its first run is asked for over HTTP."""
    store = folder / "w7.db"
    _told(str(Path(__file__).with_name("w7_program.py")), str(store), str(size), "0")
    return asyncio.run(_first_run_asked(store))


async def _first_run_asked(store: Path) -> Figures:
    command = [sys.executable, "-c", _RUN, "run", "benchmarks.w7_program:app", "--port", "0", "--store", str(store)]
    started_at = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[-1]
            listening_at = time.monotonic()
            async with Client(address) as client:
                await client.run(sequence, "first")
            ended_at = time.monotonic()
            await asyncio.sleep(IDLE_S)
            idle_mb = resident_mb(process.pid)
        finally:
            process.terminate()
    return {"secs": ended_at - started_at, "listening_secs": listening_at - started_at, "idle_mb": idle_mb}


def _told(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _against(system: str) -> Bar:
    return Bar(
        what=f"seconds of {system} until the first run has ended, times ours",
        value=lambda f: ratio(f("secs", "W7", system, "embedded", 0), f("secs", "W7", "minuet", "embedded", 0)),
    )


WORK = Work(
    name="W7",
    title="start: from process start to the first run ended, by ended runs in the store",
    entries=(
        Entry(
            system="minuet",
            what="embedded",
            durability=SYNCED,
            program=f"{__name__}:first_run",
            sizes=(0, 10_000),
            quick=(0, 20),
        ),
        Entry(
            system="minuet",
            what="minuet run, asked over HTTP",
            durability=SYNCED,
            program=f"{__name__}:first_run_asked",
            sizes=(0, 10_000),
            quick=(0, 20),
        ),
        *peers("embedded", "w7_start:first_run", sizes=(0, 200), quick=(0, 3)),
    ),
    bars=(
        Bar(
            what="seconds until the first run has ended",
            value=lambda f: f("secs", "W7", "minuet", "embedded"),
            at_most=0.5,
        ),
        Bar(what="MB idle", value=lambda f: f("idle_mb", "W7", "minuet", "embedded"), at_most=45),
        Bar(
            what="seconds until the first run has ended, of `minuet run`, asked over HTTP",
            value=lambda f: f("secs", "W7", "minuet", "minuet run, asked over HTTP"),
            at_most=0.5,
        ),
        Bar(
            what="MB idle of `minuet run`",
            value=lambda f: f("idle_mb", "W7", "minuet", "minuet run, asked over HTTP"),
            at_most=45,
        ),
        Bar(what="ms of `import minuet`", value=lambda f: f("import_ms", "W7", "minuet", "embedded"), at_most=120),
        Bar(what="MB at W1", value=lambda f: f("memory_mb", "W1", "minuet", "at once")),
        *map(_against, SYSTEMS),
    ),
)
