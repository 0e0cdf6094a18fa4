"""Disks that fail at one operation: the script goes on by itself, and then the power is cut somewhere after it."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from random import Random

from minuet.errors import StoreError, StoreFull, StoreUnavailable
from minuet.stores.sqlite.connection import open_writer
from tests.powercut.disk import Disk, Op
from tests.powercut.driver import file_of, simulated_disks
from tests.powercut.images import REPEAT, Fault, disagreement, examine, rows_of
from tests.powercut.script import PASSIVE_PAGES, RUNS, Scripted

SEVERAL = 4  # operations that fail in a row
SOON = 20  # operations after the failure, in which most of the power cuts are


class Failing(StrEnum):
    """What happens at the operation."""

    ERROR = "error"  # it fails
    ERRORS = "errors"  # and so do the next ones
    FULL = "full"  # there is no space, also for the next ones
    DEATH = "death"  # it fails, and the process dies over it; another one goes on
    KILL = "kill"  # it is not done: the process is killed before; another one goes on


def operations() -> list[Op]:
    """Give the operations of the script where nothing fails: those by which a store is made, then those of its use."""
    made, files = _performed({}, 0)
    return [*made, *_performed(files, RUNS)[0]]


def perform(failing: Failing, at: int, cuts: int | Sequence[int]) -> tuple[Counter[str], list[Fault]]:
    """Perform the script, its operation `at` failing; then cut the power at so many points after it, or at these."""
    repeat = f"--failing {failing} --at {at}"
    counts, wrong = Counter[str](performances=1), list[str]()
    made, files = _made()
    begins, runs = ({}, 0) if at < made else (files, RUNS)
    at -= made if runs else 0
    with simulated_disks(passive_pages=PASSIVE_PAGES):
        disk = Disk(begins)
        disk.fails = _fails(disk, failing, at)
        scripted = Scripted(disk, lambda error: wrong.extend(_wrong_when_told(scripted, failing, error)), runs=runs)
        try:
            scripted.perform()
            disk.fails, disk.is_dead = (lambda _, __: 0), False
            wrong += wrong_in_the_end(disk, runs)
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
        disk.close()
    for op in disk.failed:
        counts[f"{op.kind} of the {'log' if op.file.endswith('-wal') else 'file'} failed"] += 1
    for told in scripted.failures:
        counts[f"told {told.code}"] += 1
    counts["nobody was told"] += not scripted.failures
    if isinstance(cuts, int):
        cuts = _cuts(disk, at, cuts)
    more, faults = examine(scripted.record, at, cuts, recovers=False, repeat=repeat)
    return counts + more, [Fault("wrong", what, f"{REPEAT} {repeat}") for what in wrong] + faults


@cache
def _made() -> tuple[int, dict[str, bytes]]:
    """Give the number of operations by which a store is made, and its files."""
    made, files = _performed({}, 0)
    return len(made), files


def _performed(begins: Mapping[str, bytes], runs: int) -> tuple[list[Op], dict[str, bytes]]:
    """Perform the script without a failure; give what was asked of the disk, and its files."""
    asked = list[Op]()

    def none_fails(_: int, op: Op) -> int:
        asked.append(op)
        return 0

    with simulated_disks(passive_pages=PASSIVE_PAGES):
        disk = Disk(begins)
        disk.fails = none_fails
        Scripted(disk, runs=runs).perform()
        disk.close()
    return asked, {name: bytes(content) for name, content in disk.files.items()}


def _fails(disk: Disk, failing: Failing, at: int) -> Callable[[int, Op], int]:
    def fails(number: int, op: Op) -> int:
        match failing:
            case Failing.FULL:
                return errno.ENOSPC if at <= number < at + SEVERAL and op.kind == "write" else 0
            case Failing.ERRORS:
                return errno.EIO if at <= number < at + SEVERAL else 0
            case Failing.ERROR:
                return errno.EIO if number == at else 0
            case Failing.DEATH | Failing.KILL:
                disk.is_dead = disk.is_dead or number == at
                failed = errno.EIO if failing is Failing.DEATH else errno.EINTR
                return failed if number == at else 0

    return fails


def _wrong_when_told(scripted: Scripted, failing: Failing, error: StoreError) -> Iterable[str]:
    """Say what is wrong with a failure, when somebody is told of it."""
    if failing is Failing.FULL:
        if not isinstance(error, StoreFull):
            yield f"told {error!r} when there was no space"
        if scripted.record.peek() != scripted.record.expected(len(scripted.disk.record))[0]:
            yield "something was recorded when there was no space"
    elif not isinstance(error, StoreUnavailable):
        yield f"told {error!r} when an operation failed"


def wrong_in_the_end(disk: Disk, runs: int) -> Iterable[str]:
    """Say what is not there once, or there twice, when all was acknowledged and the store was closed."""
    connection = open_writer(file_of(disk.folder))
    try:
        if [row[0] for row in connection.execute("pragma integrity_check")] != ["ok"]:
            yield "integrity_check"
        if what := disagreement(connection):
            yield what
        found = {table: len(list(rows_of(connection, table, "*"))) for table in _ROWS_A_RUN}
        if found != (wanted := {table: number * runs for table, number in _ROWS_A_RUN.items()}):
            yield f"rows: {found}, and should be {wanted}"
        if [state for (state,) in rows_of(connection, "minuet_run", "state") if state != "completed"]:
            yield "a run has not ended"
    finally:
        connection.close()


_ROWS_A_RUN = {"minuet_run": 1, "minuet_fact": 3, "minuet_outbox": 1, "minuet_timer": 0, "booking": 2}


def _cuts(disk: Disk, at: int, number: int) -> list[int]:
    """Draw points after the failure, most of them soon after it."""
    chance, end = Random(f"cuts {at}"), len(disk.record)
    first = disk.first_failure if disk.first_failure is not None else min(at, end)
    soon = range(first, min(first + SOON, end) + 1)
    later = range(soon.stop, end + 1)
    chosen = chance.sample(soon, min(number - number // 4, len(soon)))
    return sorted(chosen + chance.sample(later, min(number - len(chosen), len(later))))
