"""More is started than fits: it waits or is refused, what runs goes on, and memory is bounded."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from minuet import App, Busy, Client, Service, action, event, wait_for, workflow
from minuet.runtime.settings import Settings
from minuet.server.app import make_server
from minuet.server.listener import serve

pytestmark = pytest.mark.asyncio

FIT = 50


@event("gate.opened", version=1, key="gate")
@dataclass(frozen=True)
class Opened:
    gate: str


class Gate(Service):
    def __init__(self) -> None:
        self.open = asyncio.Event()

    @action
    async def first(self, x: str) -> str:
        return x

    @action
    async def enter(self, x: str) -> str:
        await self.open.wait()
        return x


@workflow
async def enter(x: str, *, gate: Gate) -> str:
    await gate.first(x)
    return await gate.enter(x)


@workflow
async def wait(x: str, *, gate: Gate) -> str:
    await wait_for(Opened, key=x, by=gate)
    return await gate.first(x)


async def open_app(gate: Gate, folder: Path) -> App:
    app = App("gate", services=[gate], workflows=[enter, wait])
    await app.open(Settings(store_url=f"sqlite:///{folder / 'gate.db'}", runs_in_memory=FIT, slots=10))
    return app


async def test_what_does_not_fit_waits_in_process_and_over_http_or_is_refused(tmp_path: Path) -> None:
    gate = Gate()
    app = await open_app(gate, tmp_path)
    try:
        async with serve(make_server(app.control), port=0) as url, Client(url) as client:
            here = [asyncio.create_task(app.run(enter, f"here {n}")) for n in range(500)]
            there = [asyncio.create_task(client.start(enter, f"there {n}", key=f"{n}")) for n in range(20)]
            async with asyncio.timeout(60):
                while (health := await client.control.health()).runs_in_memory < FIT:
                    await asyncio.sleep(0.01)
            with pytest.raises(Busy) as refused:
                await app.control.start("enter", b'"more"', wait_for_room=False)
            assert refused.value.retry_after_s > 0
            with pytest.raises(Busy):
                await client.control.start("enter", b'"more"', wait_for_room=False)
            assert health.running_actions <= 10
            assert (await app.control.health()).runs_in_memory == FIT
            gate.open.set()
            async with asyncio.timeout(60):
                assert await asyncio.gather(*here) == [f"here {n}" for n in range(500)]
                runs = await asyncio.gather(*there)
                assert [await run.result() for run in runs] == [f"there {n}" for n in range(20)]
            assert (await app.control.health()).runs_in_memory <= FIT
    finally:
        await app.stop()


async def test_runs_that_wait_take_no_memory_however_many_they_are(tmp_path: Path) -> None:
    app = await open_app(Gate(), tmp_path)
    tracemalloc.start()
    try:

        async def start(many: range) -> int:
            numbers = iter(many)

            async def client() -> None:
                for n in numbers:
                    await app.start(wait, f"{n}", key=f"{n}")

            await asyncio.gather(*(client() for _ in range(100)))
            assert (await app.control.health()).runs_in_memory <= FIT
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        few = await start(range(500))
        many = await start(range(500, 3_000))
        assert many - few < 2_500 * 100, "a run in memory has thousands of bytes"
        for n in (0, 1_234, 2_999):
            await app.send(Opened(f"{n}"))
            assert await (await app.find(wait, f"{n}")).result(60) == f"{n}"
    finally:
        tracemalloc.stop()
        await app.stop()


async def test_whoever_waits_for_room_is_told_when_the_program_stops(tmp_path: Path) -> None:
    gate = Gate()
    app = await open_app(gate, tmp_path)
    tasks = [asyncio.create_task(app.start(enter, f"{n}")) for n in range(FIT + 20)]
    async with asyncio.timeout(60):
        while sum(task.done() for task in tasks) < FIT:
            await asyncio.sleep(0.01)
    await app.stop(grace_ms=50)
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(end, Busy) for end in ends) == 20

    gate.open.set()
    again = await open_app(gate, tmp_path)  # what was acknowledged goes on by itself
    try:
        async with asyncio.timeout(60):
            while await again.control.runs(states=("running",), limit=1):
                await asyncio.sleep(0.02)
        assert len(await again.control.runs(states=("completed",), limit=100)) == FIT
    finally:
        await again.stop()
