"""Services with stores of their own survive kill -9: nothing is lost, nothing is done twice, every run ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest

from minuet import Busy, Client, NotRunning, StoreUnavailable
from tests.acceptance.apart import Nudged, patient
from tests.acceptance.process import Process
from tests.unit.runtime.apart import line, line_led, place, rows

KILLS = 8
OPEN_AT_MOST = 60
FLOWS: list[Any] = [place, line, line_led, patient]
SERVICES = ("orders", "payments", "inventory", "shipping", "desk")


class Load:
    """Clients that start orders, and ask again while nobody answers."""

    def __init__(self, client: Client, dice: Random) -> None:
        self.client, self.dice = client, dice
        self.started: dict[str, tuple[str, str]] = {}  # key -> workflow, order; acknowledged
        self.is_over = False
        self.count = 0

    async def work(self, folder: Path) -> None:
        while not self.is_over:
            if len(self.started) - ended(folder) > OPEN_AT_MOST:
                await asyncio.sleep(0.02)
                continue
            self.count += 1
            key = f"o-{self.count:05}"
            flow = self.dice.choice(FLOWS)
            order = f"{'none' if self.dice.random() < 0.3 else 'tea'}-{key}"
            if flow is patient:
                await self._asked(Nudged(order))
            while True:
                try:
                    await self.client.start(flow, order, key=key)
                    break
                except (NotRunning, Busy, StoreUnavailable):
                    await asyncio.sleep(0.02)
            self.started[key] = flow.name, order

    async def _asked(self, nudged: Nudged) -> None:
        while True:
            try:
                await self.client.send(nudged, id=f"n-{nudged.order}")
                return
            except (NotRunning, Busy, StoreUnavailable):
                await asyncio.sleep(0.02)


def ended(folder: Path) -> int:
    return int(rows(folder, "", "select count(*) from minuet_run where ended_at_ms is not null")[0][0])


def wanted(workflow: str, order: str) -> dict[str, list[str]]:
    """Give what must be on the books of each service when an order has ended."""
    is_out = order.startswith("none")
    found: dict[str, list[str]] = {s: [] for s in SERVICES}
    found["orders"] = ["opened", f"closed #{order}"] if is_out else ["opened"]
    if workflow == "patient":
        found["inventory"], found["desk"] = ([], []) if is_out else ([f"reserved {order}"], ["nudged"])
        return found
    found["payments"] = [f"charged #{order}", f"refunded paid #{order}"] if is_out else [f"charged #{order}"]
    found["inventory"], found["shipping"] = ([], []) if is_out else ([f"reserved {order}"], ["shipped 3"])
    return found


@pytest.mark.timeout(240)  # kills, and each time several stores come up
def test_services_apart_survive_kills(tmp_path: Path) -> None:
    asyncio.run(_kill_often(tmp_path, Random(11)))


async def _kill_often(folder: Path, dice: Random) -> None:
    process = Process("tests.acceptance.apart:app", folder / "shop.db", MINUET_LOG_LEVEL="warning")
    process._words.append("--store-per-service")
    try:
        await process.start()
        async with Client(process.url) as client:
            load = Load(client, dice)
            working = asyncio.create_task(load.work(folder))
            for _ in range(KILLS):
                await asyncio.sleep(dice.uniform(0.2, 1.2))
                process.kill()
                if dice.random() < 0.4:  # also while it comes up
                    process.spawn()
                    await asyncio.sleep(dice.uniform(0.2, 0.8))
                    process.kill()
                before = ended(folder)
                await process.start()
                until = monotonic() + 30
                while ended(folder) <= before:
                    assert monotonic() < until, f"nothing goes on after a kill:\n{process.said()}"
                    await asyncio.sleep(0.02)
            load.is_over = True
            await working
            until = monotonic() + 60
            while ended(folder) < len(load.started):
                assert monotonic() < until, f"{ended(folder)} of {len(load.started)} ended:\n{process.said()}"
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)  # what was acknowledged last is recorded
            assert (await client._control.failed()) == []
        assert await process.stop() == 0
    finally:
        process.close()
    assert len(load.started) > 50
    runs = dict(rows(folder, "", "select key, state from minuet_run"))
    assert runs.keys() == load.started.keys(), "an acknowledged run is lost, or there is one too many"
    books: dict[str, dict[str, list[str]]] = {key: {s: [] for s in SERVICES} for key in load.started}
    for service in SERVICES:
        for key, what in rows(folder, service, "select run, what from entry order by id"):
            books[key][service].append(what)
    for key, (workflow, order) in load.started.items():
        assert runs[key] == ("compensated" if order.startswith("none") else "completed"), (key, workflow, order)
        assert books[key] == wanted(workflow, order), (key, workflow)
    for service in ("", *SERVICES):
        for table in ("minuet_sending", "minuet_early", "minuet_timer", "minuet_wait"):
            assert rows(folder, service, f"select count(*) from {table}") == [(0,)], (service, table)
