"""Power cuts at points of several records: nothing acknowledged is lost, nothing is there by half."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.powercut.disk import Platter
from tests.powercut.images import cuts_of, find_fault, record_of
from tests.powercut.many import check_many, missing

IMAGES = 2_000
WEAKENED_IMAGES = 200
BY_THE_OTHER = 25


@pytest.mark.timeout(600)  # thousands of databases are opened: some ten seconds, many times that beside other work
def test_every_power_cut_leaves_what_was_acknowledged_and_nothing_by_half(
    record_property: Callable[[str, object], None],
) -> None:
    counts, faults = check_many(IMAGES, 0)
    record_property("cut", dict(counts))
    print(f"synchronous=FULL: {len(faults)} wrong;", dict(counts))
    assert not faults, "\n".join(map(str, faults[:5]))
    assert counts["images"] == IMAGES
    assert not missing(counts)


@pytest.mark.parametrize(("name", "synchronous", "kinds"), [("NORMAL", 1, {"lost"}), ("OFF", 0, {"lost", "corrupt"})])
def test_a_store_that_demands_less_of_sqlite_is_found_out(name: str, synchronous: int, kinds: set[str]) -> None:
    counts, faults = check_many(WEAKENED_IMAGES, 0, synchronous)
    found = Counter(fault.kind for fault in faults)
    print(f"synchronous={name}: {dict(found)} of {counts['images']} images")
    assert found.keys() == kinds


def test_the_library_of_this_python_reads_an_image_as_the_recording_one_does(tmp_path: Path) -> None:
    record = record_of(1_000)
    platter, taken = Platter({}), 0
    for cut in cuts_of(record, 1_000, BY_THE_OTHER):
        for op in record.disk.record[taken:cut]:
            platter.take(op)
        taken = cut
        folder = tmp_path / str(cut)
        folder.mkdir()
        for name, content in platter.image(Random(cut), Counter()).items():
            (folder / name).write_bytes(content)
        assert find_fault(record, folder / "store.db", cut, Counter()) is None, (cut, sqlite3.sqlite_version)


def test_a_record_can_be_made_again() -> None:
    assert record_of(3).disk.record == record_of(3).disk.record
