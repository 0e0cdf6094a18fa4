"""A disk that fails at any operation: nothing is told that is not so, the store goes on by itself, nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from unittest.mock import patch

import pytest

from minuet.engine.port import Outcome
from minuet.engine.row import Decision
from minuet.errors import StoreError
from minuet.stores.sqlite import connection
from minuet.stores.sqlite.group import Groups
from minuet.stores.sqlite.work import WorkPerformer, write_again
from tests.powercut import failing
from tests.powercut.failing import Failing, perform
from tests.powercut.images import Fault

OPERATIONS = failing.operations()
SYNCS = [at for at, op in enumerate(OPERATIONS) if op.kind == "sync"]
WRITES = [at for at, op in enumerate(OPERATIONS) if op.kind == "write"]
EVERYTHING = [
    *("write of the log failed", "write of the file failed", "sync of the log failed", "sync of the file failed"),
    *("truncate of the file failed", "remove of the log failed"),
]


def perform_all(how: Failing, operations: Iterable[int], cuts: int) -> tuple[Counter[str], list[Fault]]:
    counts, faults = Counter[str](), list[Fault]()
    for at in operations:
        more, found = perform(how, at, cuts)
        counts += more
        faults += found
    print(f"{how}: {len(faults)} wrong;", dict(counts))
    return counts, faults


@pytest.mark.parametrize(
    ("how", "operations", "cuts", "wanted"),
    [
        (Failing.ERROR, range(len(OPERATIONS)), 1, [*EVERYTHING, "told store-unavailable", "nobody was told"]),
        (Failing.ERRORS, range(0, len(OPERATIONS), 10), 1, ["told store-unavailable"]),
        (Failing.FULL, WRITES[::2], 0, ["told store-full", "nobody was told"]),
        (Failing.DEATH, SYNCS, 6, ["unacknowledged, and there", "unacknowledged, and not there"]),
        (Failing.DEATH, range(0, len(OPERATIONS), 20), 2, ["images"]),
        (Failing.KILL, range(0, len(OPERATIONS), 20), 2, ["images"]),
    ],
)
def test_whichever_operation_fails_the_store_goes_on_and_loses_nothing(
    how: Failing,
    operations: Iterable[int],
    cuts: int,
    wanted: list[str],
    record_property: Callable[[str, object], None],
) -> None:
    counts, faults = perform_all(how, operations, cuts)
    record_property("cut", dict(counts))
    assert not faults, "\n".join(map(str, faults[:5]))
    assert [what for what in wanted if not counts[what]] == []


def test_a_log_that_is_not_written_again_is_found_out() -> None:
    with patch.object(connection, "write_log_again", lambda _: None):
        _, faults = perform_all(Failing.DEATH, SYNCS, 6)
    assert "lost" in {fault.kind for fault in faults}


def test_a_store_that_tells_of_a_failed_commit_as_done_is_found_out() -> None:
    run = Groups.run

    def tell_as_done(groups: Groups, group: list[Decision]) -> list[Outcome]:
        outcomes = run(groups, list(group))
        failed = any(isinstance(outcome.error, StoreError) for outcome in outcomes)
        return [Outcome(Decision(), None, None)] * len(outcomes) if failed else outcomes

    with patch.object(Groups, "run", tell_as_done):
        _, faults = perform_all(Failing.ERROR, SYNCS[-6:], 2)
    assert faults


def test_writes_that_stay_although_their_fact_was_there_are_found_out() -> None:
    def write(works: WorkPerformer, decision: Decision) -> None:
        try:
            works._rows.write([decision])
        except Exception as error:
            write_again(works._rows, decision, error)

    with patch.object(WorkPerformer, "_write", write):
        _, faults = perform_all(Failing.KILL, SYNCS, 0)
    assert any("booking" in fault.what for fault in faults)
