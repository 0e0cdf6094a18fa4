"""DBOS as somebody who takes part: on SQLite as it comes, and with the write-ahead log."""

from __future__ import annotations

from benchmarks.contest import Entry

SYSTEMS = ("dbos", "dbos, WAL")
_DURABILITY = {
    "dbos": "each result synced (SQLite rollback journal, synchronous=FULL: its defaults)",
    "dbos, WAL": "each result synced (SQLite WAL, synchronous=FULL)",
}


def peers(what: str, program: str, *, sizes: tuple[int, ...], quick: tuple[int, ...]) -> list[Entry]:
    """Give both as entries of a work; `program` is a function in this package."""
    return [
        Entry(
            system=system,
            what=what,
            durability=_DURABILITY[system],
            program=f"benchmarks.peer.{program}",
            sizes=sizes,
            quick=quick,
            options={"wal": system == "dbos, WAL"},
        )
        for system in SYSTEMS
    ]
