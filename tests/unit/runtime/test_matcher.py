"""Events and waits, brought together."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from minuet import App, Service, action, event, wait_for, workflow

pytestmark = pytest.mark.asyncio


@event("door.rung", version=1, key="door")
@dataclass(frozen=True)
class Rung:
    door: str


class Doors(Service):
    @action
    async def open(self, door: str) -> str:
        return door


@workflow
async def let_in(door: str, *, doors: Doors) -> str:
    await wait_for(Rung, key=door, by=doors)
    return await doors.open(door)


async def test_what_had_come_together_when_the_process_died_is_found_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "doors.db"

    def house() -> App:
        return App("house", services=[Doors()], workflows=[let_in], store=f"sqlite:///{file}")

    async with house() as app:
        runs = [await app.start(let_in, f"door {n}", key=f"{n}") for n in range(3)]
    # As if it had been killed after the events were recorded, and before it was seen who waits for them.
    with sqlite3.connect(file) as connection:
        connection.executemany(
            "insert into minuet_inbox"
            " (source, message, event, version, key, body, state, received_at_ms, expires_at_ms)"
            " values ('outside', ?, 'door.rung', 1, ?, ?, 'kept', 0, 9e15)",
            [(f"m-{n}", f"door {n}", f'{{"door": "door {n}"}}') for n in (0, 2)],
        )
    connection.close()
    async with house() as app:
        async with asyncio.timeout(60):
            for n in (0, 2):
                again = await app.find(let_in, f"{n}")
                assert await again.result() == f"door {n}"
        assert await (await app.find(let_in, "1")).status() == "running"
        assert runs[1].id == (await app.find(let_in, "1")).id
