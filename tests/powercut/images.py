"""Images: what power cuts leave of a recorded disk, opened as the store does it, and compared with what was told."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from minuet.engine.row import ENDED
from minuet.errors import MinuetError
from minuet.ids import op_key, parse_round
from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from minuet.stores.query import load_queries
from minuet.stores.sqlite import store
from minuet.stores.sqlite.connection import open_writer
from minuet.stores.sqlite.schema import open_schema
from tests.powercut.disk import Disk, Platter
from tests.powercut.driver import file_of, simulated_disks
from tests.powercut.recording import Record, digest_of, play
from tests.powercut.trade import ORDERS, sell

PASSIVE_PAGES = 96  # a record has some eight checkpoints
RECOVER_EVERY = 100  # images: of one of so many a program takes up what is there, and brings it to its end
LATER_MS = 10_000  # by so much the program that recovers begins later than the one that was cut off
REPEAT = "python -m tests.powercut.many"
WANTED = (
    *("writes kept", "writes lost", "writes torn", "junk at the end", "files not removed"),
    *("during a checkpoint", "unacknowledged, and there", "unacknowledged, and not there", "recovered"),
)
"""What has to have happened in a sufficiently large number of images, or they show nothing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An image that is not as it should be: `lost`, `corrupt`, or `wrong`; and the line that repeats it."""

    kind: str
    what: str
    repeat: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}. Again: {self.repeat}"


def record_of(seed: int, *, synchronous: int | None = None) -> Record:
    """Record a disk. `synchronous`: 0 or 1 weakens what the store demands."""
    with simulated_disks(synchronous=synchronous, passive_pages=PASSIVE_PAGES):
        disk = Disk()
        try:
            return play(disk, seed)
        finally:
            disk.close()


def cuts_of(record: Record, seed: int, number: int) -> list[int]:
    """Draw so many points of a record, each once, ascending.

    A quarter of them are right before a sync, and where there is room some are right after a file was removed.
    """
    chance, ops = Random(f"cuts {seed}"), record.disk.record
    syncs = [at for at, op in enumerate(ops) if op.kind == "sync"]
    removals = [at + 1 for at, op in enumerate(ops) if op.kind == "remove"]
    chosen = {*chance.sample(syncs, min(number // 4, len(syncs))), *removals[: number // 4]}
    others = [at for at in range(1, len(ops) + 1) if at not in chosen]
    return sorted([*chosen, *chance.sample(others, min(number - len(chosen), len(others)))])


def examine(
    record: Record, seed: int, cuts: Iterable[int], *, repeat: str, recovers: bool = True
) -> tuple[Counter[str], list[Fault]]:
    """Cut the power at these points, ascending; give what was counted, and what is not as it should be."""
    counts, faults = Counter[str](), []
    platter, taken = Platter(record.disk.start), 0
    with simulated_disks(passive_pages=PASSIVE_PAGES):
        for cut in cuts:
            for op in itertools.islice(record.disk.record, taken, cut):
                platter.take(op)
            taken = cut
            files = platter.image(Random(f"image {seed} {cut}"), counts)
            counts["images"] += 1
            counts["during a checkpoint"] += platter.is_open("store.db")
            fault = _fault(record, files, cut, counts)
            if fault is None and recovers and Random(f"recover {seed} {cut}").randrange(RECOVER_EVERY) == 0:
                fault = _fault_of_recovery(record, files, cut, seed)
                counts["recovered"] += 1
            if fault is not None:
                faults.append(Fault(*fault, f"{REPEAT} {repeat} --cut {cut}"))
    return counts, faults


def _fault(record: Record, files: Mapping[str, bytes], cut: int, counts: Counter[str]) -> tuple[str, str] | None:
    """Open an image as the store does; say what is wrong with it."""
    disk = Disk(files)
    try:
        return find_fault(record, file_of(disk.folder), cut, counts)
    except (sqlite3.Error, MinuetError) as error:
        return "corrupt", f"{type(error).__name__}: {error}"
    finally:
        disk.close()


def find_fault(record: Record, file: Path, cut: int, counts: Counter[str]) -> tuple[str, str] | None:
    """Open a database that a power cut at this point has left; say what is wrong with it.

    Raises:
        sqlite3.Error, MinuetError: it cannot be opened, or read.
    """
    connection = open_writer(file)
    try:
        result = [row[0] for row in connection.execute("pragma integrity_check")]
        if result != ["ok"]:
            return "corrupt", f"integrity_check: {result[0]}"
        if (fault := _fault_of_content(record, connection, cut, counts)) is not None:
            return fault
        before = _epoch(connection)
        opened = open_schema(connection, load_all_queries(), file.name)
        return None if opened.epoch == before + 1 else ("wrong", f"epoch {opened.epoch} after {before}")
    finally:
        connection.close()


def _fault_of_content(
    record: Record, connection: sqlite3.Connection, cut: int, counts: Counter[str]
) -> tuple[str, str] | None:
    found, (sure, perhaps) = digest_of(connection), record.expected(cut)
    if found != sure and found not in perhaps:
        known = [n for n, state in enumerate(record.states) if state.digest == found]
        if known or found == record.base:
            return (
                "lost",
                f"as after transaction {known[-1] + 1 if known else 0}, which is not the last acknowledged one",
            )
        return "corrupt", "it is as after no transaction"
    if perhaps:
        counts["unacknowledged, and not there" if found == sure else "unacknowledged, and there"] += 1
    runs = dict(rows_of(connection, "minuet_run", "key, state"))
    for told in record.told:
        if told.at > cut:
            break
        if told.key not in runs or (told.end is not None and runs[told.key] != told.end):
            return "lost", f"{told.key} was told as {told.end or 'begun'}, and is {runs.get(told.key)}"
    if wrong := disagreement(connection):
        return "wrong", wrong
    return None


def disagreement(connection: sqlite3.Connection) -> str | None:
    """Say where facts, what handlers wrote, events, and what reactions did are not as they belong together."""
    steps, hold = steps_of_sell()
    done, held = Counter[str](), Counter[str]()
    keys = dict(rows_of(connection, "minuet_run", "run, key"))
    for run, position, round_, label in rows_of(connection, "minuet_fact", "run, position, round, label"):
        if position in steps and label in ("ok", "compensated"):
            direction = "forward" if label == "ok" else "compensation"
            done[op_key(run, position, parse_round(round_), direction)] += 1
            if position == hold and label == "ok":
                held[keys[run]] += 1
    events = dict(rows_of(connection, "minuet_outbox", "entry, key", "where event = 'trade.held'"))
    applied = {entry for (entry,) in rows_of(connection, "minuet_applied", "entry")}
    later = {entry for (entry,) in rows_of(connection, "minuet_delivery", "entry")}
    until = max((position for (position,) in rows_of(connection, "minuet_subscription", "position")), default=0)
    pairs = (
        ("facts and bookings", done, [key for (key,) in rows_of(connection, "booking", "op_key")]),
        ("facts and events", held, events.values()),
        (
            "reactions and what they heard",
            Counter(
                key for entry, key in events.items() if entry in applied or (entry <= until and entry not in later)
            ),
            [order for (order,) in rows_of(connection, "heard", "entry")],
        ),
    )
    for what, one, other in pairs:
        if one != Counter(other):
            return f"{what}: {sorted((one - Counter(other)) + (Counter(other) - one))[:3]}"
    return None


def unfinished(connection: sqlite3.Connection, orders: int) -> str | None:
    """Say what is not over: every order has one run, which has ended, and its event was heard once."""
    runs = list(rows_of(connection, "minuet_run", "key, state"))
    if sorted(key for key, _ in runs) != sorted(f"o-{n}" for n in range(orders)):
        return f"not a run for each order: {sorted(runs)}"
    if left := [(key, state) for key, state in runs if state not in ENDED]:
        return f"not ended: {left}"
    if len(list(rows_of(connection, "heard", "entry"))) != orders:
        return "not every event was heard once"
    return disagreement(connection)


def _fault_of_recovery(record: Record, files: Mapping[str, bytes], cut: int, seed: int) -> tuple[str, str] | None:
    """Have a program take up what is on an image, its clients asking again; say what is wrong in the end."""
    disk = Disk(files)
    try:
        play(disk, seed, lives=1, later_ms=LATER_MS)
        connection = open_writer(file_of(disk.folder))
        try:
            what = unfinished(connection, ORDERS)
        finally:
            connection.close()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
    finally:
        disk.close()
    return None if what is None else ("wrong", f"after recovery: {what}")


def rows_of(connection: sqlite3.Connection, table: str, columns: str, where: str = "") -> Iterator[tuple[Any, ...]]:
    """Give rows of a table; none where it is not there yet."""
    if connection.execute("select 1 from sqlite_schema where name = ?", (table,)).fetchone():
        yield from connection.execute(f"select {columns} from {table} {where}")


def _epoch(connection: sqlite3.Connection) -> int:
    return next((int(value) for (value,) in rows_of(connection, "minuet_store", "value", "where name = 'epoch'")), 0)


@cache
def steps_of_sell() -> tuple[frozenset[str], str]:
    """Give the positions of the steps, and that of `hold`."""
    rules = [rule for rule in make_plan(sell.tree, Placement()).rules if rule.kind == "run"]
    return frozenset(rule.position for rule in rules), next(r.position for r in rules if r.about["action"] == "hold")


@cache
def load_all_queries() -> Mapping[str, str]:
    """Give the queries of the store."""
    return load_queries(store._QUERIES)
