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


def pitfall(name: str, *words: str) -> list[str]:
    command = [sys.executable, "-m", f"examples.pitfalls.{name}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_a_command_and_an_event_charge_twice_unless_the_action_says_by_what_it_takes_effect_once() -> None:
    assert pitfall("double_trigger", "--unguarded") == ["receipt 1", "charges of o-17: 2"]
    receipt, charges, parked = pitfall("double_trigger")
    assert (receipt, charges) == ("receipt 1", "charges of o-17: 1")
    assert parked.startswith(
        "parked: second-cause: payments.charge took effect for 'o-17' already, by step 1 of place_"
    )
    assert "again by the reaction payments.when_confirmed (double_trigger.py:" in parked


def test_two_orchestrators_send_two_parcels_unless_the_action_says_by_what_it_takes_effect_once() -> None:
    assert pitfall("two_orchestrators", "--unguarded")[2:] == ["parcels of o-17: 2"]
    parcel, parcels, parked = pitfall("two_orchestrators")
    assert (parcel, parcels) == ("parcel 1", "parcels of o-17: 1")
    assert "step 1 of place_order@" in parked
    assert "step 1 of fulfil_order@" in parked


def test_an_event_loop_is_stopped_at_the_limit_or_at_its_first_repetition() -> None:
    reservations, parked = pitfall("event_loop", "--unguarded")
    assert reservations == "reservations of o-17: 33"
    assert (
        "a circle: stock.reserved → shop.when_reserved → shop.ordered → stock.when_ordered → stock.reserved" in parked
    )
    reservations, parked = pitfall("event_loop")
    assert reservations == "reservations of o-17: 1"
    assert parked.count("the reaction stock.when_ordered") == 2


@pytest.mark.parametrize(
    "how", [(), ("--style", "orchestration"), ("--style", "choreography", "--store-per-service")], ids=" ".join
)
def test_the_demo_adds_up_in_every_style(tmp_path: Path, how: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "examples.shop.demo", "--orders", "150", "--kills", "1", "--json", *how]
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
    assert (said["acknowledged"], said["runs"], said["kills"]) == (150, 150, 1)
    assert {"delivered", "address-unknown", "card-declined", "waiting"} <= set(said["fates"])
