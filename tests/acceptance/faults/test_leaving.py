"""SIGTERM under load: what was acknowledged is there afterwards, and the process leaves in order."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from minuet import Client
from tests.acceptance.errands import entries
from tests.acceptance.kills_errands import ErrandLoad
from tests.acceptance.kills_victim import Eyes
from tests.acceptance.process import Process

pytestmark = pytest.mark.asyncio


async def test_a_process_that_is_told_to_leave_under_load_leaves_nothing_undone(tmp_path: Path) -> None:
    process = Process(
        "tests.acceptance.errands:app",
        tmp_path / "errands.db",
        ERRANDS_WORLD=str(tmp_path / "world.txt"),
        MINUET_GRACE="10m",  # longer than we wait for its end: nothing here may need to be cut off
    )
    try:
        await process.start()
        eyes = Eyes(process.store)
        async with Client(process.url) as client:
            load = ErrandLoad(client, random.Random(7))
            working = asyncio.create_task(load.work())
            for _ in range(3):
                await asyncio.sleep(0.7)
                assert await process.stop() == 0, process.said()
                await process.start()
            load.is_over = True
            await working
            async with asyncio.timeout(60):
                while eyes.ended() < len(load.errands):
                    await asyncio.sleep(0.05)
        assert await process.stop() == 0
        found = dict.fromkeys(load.errands, 0)
        for errand, count in eyes.all("select errand, count(*) from entry group by errand"):
            found[errand] = count
        eyes.close()
        assert len(load.errands) > 50
        assert {key: entries(e).total() for key, e in load.errands.items()} == found
        assert "Traceback" not in process.said(), process.said()
    finally:
        process.close()
