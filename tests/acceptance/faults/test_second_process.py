"""One process holds a file: the second is told who, and whoever only reads is not turned away (F5)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from minuet import AlreadyOpen, Client
from minuet.stores.opening import open_store
from tests.acceptance.errands import Errand, run_errand
from tests.acceptance.process import MINUET, ROOT, Process

APP = "tests.acceptance.errands:app"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Process]:
    process = Process(APP, tmp_path / "errands.db", ERRANDS_WORLD=str(tmp_path / "world.txt"))
    yield process
    process.close()


def minuet(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MINUET), *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.asyncio
async def test_the_second_process_is_refused_and_told_which_one_is_first(first: Process) -> None:
    await first.start()
    async with Client(first.url) as client:
        await client.start(run_errand, Errand("e-1", nudged=True), key="e-1")

    second = minuet("run", APP, "--store", first.store, "--port", 0)
    assert second.returncode == 4, second.stderr
    assert str(first.pid) in second.stderr
    assert socket.gethostname() in second.stderr
    assert str(datetime.now(UTC).year) in second.stderr
    with pytest.raises(AlreadyOpen, match=str(first.pid)) as refused:
        await open_store(f"sqlite:///{first.store}").open(lambda _: None)
    began_at_ms = refused.value.subject["started_at_ms"]
    assert 0 <= datetime.now(UTC).timestamp() * 1_000 - began_at_ms < 60_000

    listed = minuet("runs", "--store", first.store, "--json")
    assert [r["key"] for r in json.loads(listed.stdout)["runs"]] == ["e-1"]
    assert minuet("show", "--key", "e-1", "--store", first.store).returncode == 0
    assert minuet("failed", "list", "--store", first.store).returncode == 0
    assert first.is_alive


@pytest.mark.asyncio
async def test_a_process_that_was_killed_holds_nothing(first: Process) -> None:
    await first.start()
    async with Client(first.url) as client:
        await client.start(run_errand, Errand("e-1", nudged=True), key="e-1")
    first.kill()

    assert "e-1" in minuet("runs", "--store", first.store).stdout  # read from the file, though nobody has closed it
    assert minuet("cancel", "--key", "e-1", "--store", first.store).returncode == 3
    await first.start()
    async with Client(first.url) as client:
        assert (await client.find(run_errand, "e-1")).key == "e-1"
