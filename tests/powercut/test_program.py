"""A program over a disk that fails: every run comes to its end by itself, and every effect is there once."""

from __future__ import annotations

import errno
from collections import Counter

import pytest

from minuet.stores.sqlite.connection import open_writer
from tests.powercut.disk import Disk, Op
from tests.powercut.driver import file_of, simulated_disks
from tests.powercut.images import find_fault, unfinished
from tests.powercut.recording import Record, play

ORDERS = 4
PASSIVE_PAGES = 48
TRIALS = 8  # of each kind


def trial(code: int, first: int, number: int) -> tuple[Disk, str | None]:
    """Perform orders over a disk of which so many operations fail; give it, and what is wrong in the end."""
    disk = Disk()

    def fails(asked: int, op: Op) -> int:
        return code if first <= asked < first + number and (code == errno.EIO or op.kind == "write") else 0

    disk.fails = fails
    try:
        record = play(disk, 0, orders=ORDERS)
        disk.fails = lambda _, __: 0
        return disk, _wrong_in_the_end(record)
    finally:
        disk.close()


def _wrong_in_the_end(record: Record) -> str | None:
    file = file_of(record.disk.folder)
    connection = open_writer(file)
    wrong = unfinished(connection, ORDERS)
    connection.close()
    if wrong is None and (fault := find_fault(record, file, len(record.disk.record), Counter())) is not None:
        wrong = ": ".join(fault)
    return wrong


@pytest.mark.parametrize(
    ("code", "number"),
    [
        pytest.param(errno.EIO, 1, id="one operation fails"),
        pytest.param(errno.EIO, 25, id="many operations fail"),
        pytest.param(errno.ENOSPC, 60, id="no space for a while"),
    ],
)
def test_a_program_goes_on_by_itself_when_its_disk_does(code: int, number: int) -> None:
    with simulated_disks(passive_pages=PASSIVE_PAGES):
        whole = Disk()
        play(whole, 0, orders=ORDERS)
        for first in range(0, whole.asked * 9 // 10, whole.asked // TRIALS):
            disk, wrong = trial(code, first, number)
            assert wrong is None, (first, wrong)
            assert disk.failed, first
