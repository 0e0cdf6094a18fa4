"""Events survive kill -9: nothing is lost, nothing is applied twice, and each key keeps its order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from tests.acceptance.chain import chain

ROOT = Path(__file__).parents[2]
KILLS = 5
STAGES = {"first": "chain.begun", "second": "chain.gone-on", "third": "chain.ended"}


def test_a_chain_of_reactions_survives_kills(tmp_path: Path) -> None:
    store, acknowledged, dice = tmp_path / "chain.db", tmp_path / "acknowledged.txt", Random(7)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.chain", str(store), str(acknowledged)], cwd=ROOT, env=os.environ
        )
        known = len(acknowledged.read_text()) if acknowledged.exists() else 0
        until = time.monotonic() + 20
        while not acknowledged.exists() or len(acknowledged.read_text()) <= known:
            assert time.monotonic() < until, "it does not come up"
            assert process.poll() is None, "it has ended by itself"
            time.sleep(0.02)
        time.sleep(dice.uniform(0.1, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    asyncio.run(_come_to_the_end(store))

    connection = sqlite3.connect(store)
    numbers = {int(line) for line in acknowledged.read_text().split()}
    assert len(numbers) > 200
    published = {
        event: [
            (entry, body["key"], body["number"])
            for entry, text in connection.execute(
                "select entry, body from minuet_outbox where event = ? order by entry", (event,)
            )
            for body in [json.loads(text)]
        ]
        for event in STAGES.values()
    }
    assert numbers <= {number for _, _, number in published["chain.begun"]}, "an acknowledged event is lost"
    for stage, event in STAGES.items():
        rows = connection.execute("select key, number from entry where stage = ? order by id", (stage,)).fetchall()
        assert len(rows) == len(set(rows)), f"{stage}: applied twice"
        assert set(rows) == {(key, number) for _, key, number in published[event]}, f"{stage}: not all was applied"
        for key in {key for key, _ in rows}:
            applied = [number for k, number in rows if k == key]
            assert applied == [number for _, k, number in published[event] if k == key], f"{stage}: order of {key}"
    assert len(published["chain.begun"]) == len(published["chain.ended"])
    announced = connection.execute("select number from entry where stage = 'announced'").fetchall()
    assert sorted(announced) == sorted({(n,) for _, _, n in published["chain.begun"] if n % 2 == 0})
    assert connection.execute("select count(*) from minuet_delivery").fetchone() == (0,)
    connection.close()


async def _come_to_the_end(store: Path) -> None:
    async with chain(store) as app, asyncio.timeout(60):
        eyes = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
        while True:
            counts = [
                eyes.execute("select count(*) from minuet_run where load is not null").fetchone()[0],
                eyes.execute("select count(*) from minuet_delivery").fetchone()[0],
            ]
            begun = eyes.execute("select count(*) from minuet_outbox where event = 'chain.begun'").fetchone()[0]
            ended = eyes.execute("select count(*) from entry where stage = 'third'").fetchone()[0]
            if counts == [0, 0] and begun == ended:
                break
            await asyncio.sleep(0.05)
        eyes.close()
        assert app.name == "chain"
