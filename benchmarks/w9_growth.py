"""W9: what a store costs that has grown: ended runs beside W1; runs that wait for an event or a timer.

The grown stores are filled by SQL: the rows that one real run of each kind has left are multiplied, with run ids of
the past (ended runs) and keys of their own (waits). Real runs are started only where memory is looked at.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.contest import SYNCED, Bar, Entry, Figure, Figures, Work, ratio
from benchmarks.meter import Meter, in_closed_loop, resident_mb
from benchmarks.program import open_app
from benchmarks.w1_sequence import AT_ONCE, Steps, order, perform_at_once, sequence
from minuet import App, Service, action, event, sleep, wait_for, workflow
from minuet.ids import first_run, parse_run

RUNS = 20_000
EVENTS = 20
_DAY_MS = 86_400_000


@event("bench.approved", version=1, key="request", external=True)
@dataclass(frozen=True)
class Approved:
    request: str


@dataclass(frozen=True)
class Request:
    id: str


class Desk(Service):
    @action
    async def file(self, request: Request) -> str:
        return request.id


@workflow
async def approval(request: Request, *, desk: Desk) -> str:
    filed = await desk.file(request)
    await wait_for(Approved, key=filed, by=desk)
    return filed


@workflow
async def trial(request: Request, *, desk: Desk) -> str:
    filed = await desk.file(request)
    await sleep(timedelta(days=14), by=desk)
    return filed


def beside_ended(folder: Path, shared: Path, size: int, *, runs: int = RUNS) -> Figures:
    """Perform W1 in a store with `size` ended runs."""
    if not size:
        return asyncio.run(perform_at_once(folder / "w9.db", runs))
    store = shared / f"ended-{size}.db"
    if not store.exists():
        asyncio.run(_fill_ended(store, size))
    return asyncio.run(perform_at_once(store, runs))


async def _fill_ended(store: Path, size: int) -> None:
    async with open_app([Steps()], [sequence], store) as app:
        run = await app.start(sequence, order(0))
        await run.result()
    _multiply(store, run.id, size)


def waiting(folder: Path, shared: Path, size: int) -> Figures:
    """Open a store in which `size` runs wait, half for an event, half for a timer; and perform one of them."""
    store = shared / f"waiting-{size}.db"
    if not store.exists():
        asyncio.run(_fill_waiting(store, size))
    return asyncio.run(_waiting(store, size))


async def _fill_waiting(store: Path, size: int) -> None:
    async with _desk(store) as app:
        runs = [await app.start(flow, Request("r")) for flow in (approval, trial)]
        for run in runs:
            while not await run.waiting():
                await asyncio.sleep(0.001)
    for run in runs:
        _multiply(store, run.id, size // 2)


async def _waiting(store: Path, size: int) -> Figures:
    before_mb = resident_mb()
    began_s = time.perf_counter()
    async with _desk(store) as app:
        request = Request(f"new {time.time_ns()}")
        run = await app.start(approval, request)
        await app.send(Approved(request.id))
        await run.result()
        secs = time.perf_counter() - began_s
        memory_mb = resident_mb()
        with Meter() as meter:
            for i in range(EVENTS):
                await _approve(app, f"r{(size // 2) - 1 - i}")
    return {
        "secs": secs,
        "memory_mb": memory_mb,
        "added_mb": memory_mb - before_mb,
        "event_ms": meter.secs * 1000 / EVENTS,
    }


async def _approve(app: App, request: str) -> None:
    receipt = await app.send(Approved(request))
    assert receipt.waiting <= 1


def evicted(folder: Path, shared: Path, size: int) -> Figures:
    """Start `size` runs that wait, really; most are evicted from memory. Then give some of them what they wait for."""
    return asyncio.run(_evicted(folder / "w9.db", size))


async def _evicted(store: Path, size: int) -> Figures:
    async with _desk(store) as app:
        first = {}

        async def start(i: int) -> None:
            run = await app.start(approval, Request(f"r{i}"))
            if i < EVENTS:
                first[i] = run

        with Meter() as meter:
            await in_closed_loop(size, AT_ONCE, start)
            while (await app.control.health()).running_actions:
                await asyncio.sleep(0.01)
        figures = meter.figures(size)
        in_memory = (await app.control.health()).runs_in_memory
        with Meter() as woken:
            for i, run in first.items():
                await app.send(Approved(f"r{i}"))
                assert await run.result() == f"r{i}"
    return {**figures, "runs_in_memory": in_memory, "event_ms": woken.secs * 1000 / len(first)}


def _desk(store: Path) -> AbstractAsyncContextManager[App]:
    return open_app([Desk()], [approval, trial], store)


def _multiply(store: Path, run: str, times: int) -> None:
    """Write the rows of one run again and again, under run ids of yesterday."""
    template = parse_run(run)
    assert template is not None
    connection = sqlite3.connect(store, isolation_level=None)
    try:
        connection.execute("pragma synchronous = off")
        first = _first_free(connection)
        connection.execute("begin")
        for table in ("minuet_run", "minuet_fact", "minuet_timer", "minuet_wait"):
            columns = [name for _, name, *_ in connection.execute(f"pragma table_info({table})")]
            connection.execute(
                "with recursive number(i) as (select 0 union all select i + 1 from number where i + 1 < :times) "
                f"insert into {table} ({', '.join(columns)}) "
                f"select {', '.join(_copied(table, columns))} from number cross join {table} as t where t.run = :run",
                {"times": times, "run": template, "first": first, "step": _step()},
            )
        connection.execute("commit")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()  # nothing is left to be written back later
    finally:
        connection.close()


def _copied(table: str, columns: Iterable[str]) -> list[str]:
    given = {"run": ":first + i * :step"}
    if table == "minuet_wait":
        given["key"] = "t.key || i"
    return [given.get(name, f"t.{name}") for name in columns]


def _step() -> int:
    return first_run(2) - first_run(1)


def _first_free(connection: sqlite3.Connection) -> int:
    """Give the first run id of yesterday, or the one after the last that was copied."""
    yesterday = first_run(time.time_ns() // 1_000_000 - _DAY_MS)
    (last,) = connection.execute(
        "select max(run) from minuet_run where run < ?", [yesterday + _DAY_MS // 2 * _step()]
    ).fetchone()
    return yesterday if last is None else max(yesterday, last + _step())


def _beside(size: int) -> Bar:
    def value(f: Figure) -> float | None:
        of = "W1 beside ended runs"
        return ratio(f("per_s", "W9", "minuet", of, size), f("per_s", "W9", "minuet", of, 0))

    return Bar(what=f"W1 runs/s beside {size:,} ended runs, times an empty store", value=value, at_least=0.9)


def work(*, large: bool = False) -> Work:
    """Give the work; `large` with 10 million ended runs, which take minutes and gigabytes."""
    millions = (1_000_000, 10_000_000) if large else (1_000_000,)
    return Work(
        name="W9",
        title="growth: W1 beside ended runs; runs that wait",
        entries=(
            Entry(
                system="minuet",
                what="W1 beside ended runs",
                durability=SYNCED,
                program=f"{__name__}:beside_ended",
                sizes=(0, *millions),
                quick=(0, 1_000),
                quick_options={"runs": 50},
                timeout_s=3_600,
            ),
            Entry(
                system="minuet",
                what="open a store of waiting runs",
                durability=SYNCED,
                program=f"{__name__}:waiting",
                sizes=(100_000, 1_000_000),
                quick=(100, 1_000),
            ),
            Entry(
                system="minuet",
                what="start runs that wait",
                durability=SYNCED,
                program=f"{__name__}:evicted",
                sizes=(25_000, 100_000),
                quick=(50, 100),
            ),
        ),
        bars=(
            *map(_beside, millions),
            Bar(
                what="MB with 1 million waiting runs",
                value=lambda f: f("memory_mb", "W9", "minuet", "open a store of waiting runs"),
                at_most=250,
            ),
            Bar(
                what="seconds to open it, and to start and end one run",
                value=lambda f: f("secs", "W9", "minuet", "open a store of waiting runs"),
                at_most=2,
            ),
            Bar(
                what="runs in memory of 100,000 that wait",
                value=lambda f: f("runs_in_memory", "W9", "minuet", "start runs that wait"),
                at_most=10_000,
            ),
        ),
    )
