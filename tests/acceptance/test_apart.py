"""`minuet run --store-per-service` as a user has it: over HTTP and on the command line, as with one store."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from minuet import Client, Conflict
from minuet.runtime.http_client import HttpControl
from tests.acceptance.apart import patient
from tests.acceptance.process import MINUET, ROOT, Process
from tests.unit.runtime.apart import SERVICES, place, rows


def minuet(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MINUET), *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


class Apart(Process):
    """A program that gives each service a store of its own."""

    def __init__(self, store: Path) -> None:
        super().__init__("tests.acceptance.apart:app", store, MINUET_LOG_LEVEL="warning")
        self._words.append("--store-per-service")


def test_a_program_whose_services_are_apart_is_asked_like_any_other(tmp_path: Path) -> None:
    asyncio.run(_asked(tmp_path))


async def _asked(folder: Path) -> None:
    process = Apart(folder / "shop.db")
    try:
        await process.start()
        async with Client(process.url) as client, HttpControl(process.url) as control:
            assert await client.run(place, "tea", key="o-1") == "paid #tea, 3 pieces"
            waits = await client.start(patient, "late", key="o-2")
            found = await control.find("o-1")
            view = await control.show(found.run)
            assert (view.state, view.style) == ("completed", "choreography")
            assert sorted((f.position, f.owner) for f in view.facts) == [
                ("1", "orders"), ("2a", "payments"), ("2b", "inventory"), ("3", "shipping")
            ]  # fmt: skip
            assert {r.key for r in await control.runs()} == {"o-1", "o-2"}
            assert [r.key for r in await control.runs(states=("running",))] == ["o-2"]
            assert (await control.wait(waits.id, 0.05)).state == "running"
            assert await control.failed() == []
            health = await control.health()
            assert health.ready
            plans = {p.workflow: p for p in await control.plans()}
            named = {p.participant for p in plans["place"].participants if p.acknowledged_at_ms}
            assert named == set(SERVICES)
            with pytest.raises(Conflict, match="new runs of place take"):
                await control.retire(plans["place"].digest, who="me")
        where = ("--url", process.url)
        listed = minuet("plan", "list", *where)
        assert "KNOWN BY" in listed.stdout
        assert "4 of 4" in listed.stdout
        shown = minuet("show", "--key", "o-1", "--facts", *where)
        assert "shipping.ship" in shown.stdout, shown.stderr
        refused = minuet("plan", "retire", plans["place"].digest, "--yes", *where)
        assert (refused.returncode, "new runs of place take" in refused.stderr) == (4, True)
        assert json.loads(minuet("failed", "list", "--json", *where).stdout)["failed"] == []
        assert {f.name for f in folder.glob("*.db")} == {
            "shop.db", "shop.broker.db", "shop.observer.db", "shop.desk.db", *(f"shop.{s}.db" for s in SERVICES)
        }  # fmt: skip
        assert rows(folder, "payments", "select count(*) from entry where run = 'o-1'") == [(1,)]
        assert await process.stop() == 0
    finally:
        process.close()
