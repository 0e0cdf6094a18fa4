"""The examples do what they say."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples import batch, first
from minuet import RunRejected
from tests.acceptance.process import ROOT


def test_the_first_workflow_books_a_room_and_a_flight_or_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    async def book(city: str) -> None:
        async with first.app:
            await first.app.run(first.book_trip, city)

    asyncio.run(first.main())
    assert capsys.readouterr().out == "['a room in Lisbon', 'a flight to Lisbon']\n"
    with pytest.raises(RunRejected, match="fully-booked"):
        asyncio.run(book("Atlantis"))
    assert capsys.readouterr().out == "cancelled: a room in Atlantis\n"


def test_the_batch_loads_all_files_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "2026-01-31"
    folder.mkdir()
    for n in range(20):
        (folder / f"{n:02}.csv").write_text("a\nb\n")
    asyncio.run(batch.main(".", "2026-01-31"))
    assert capsys.readouterr().out == "40 rows are published\n"
    (folder / "07.csv").write_text("a\n\n")
    asyncio.run(batch.main(".", "2026-01-31"))
    said = capsys.readouterr().out
    assert said.count("unloaded") == 19
    assert said.endswith("nothing is published: line 2 of 2026-01-31/07.csv is empty\n")


def test_the_demo_adds_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.shop.demo", "--orders", "250", "--kills", "1", "--json"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path / "demo")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["adds_up"]
    assert (said["acknowledged"], said["runs"], said["kills"]) == (250, 250, 1)
    assert {"delivered", "address-unknown", "card-declined", "waiting"} <= set(said["fates"])
