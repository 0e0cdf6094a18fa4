"""A program of DBOS as the works use it: in the process that measures, over one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbos import DBOS

__all__ = ["DBOS", "configure", "launched", "prepare"]


def prepare(file: Path) -> None:
    """Have a file use the write-ahead log: a property of the file, which stays."""
    connection = sqlite3.connect(file)
    connection.execute("pragma journal_mode = wal")
    connection.close()


def configure(file: Path, *, wal: bool) -> None:
    """Say where DBOS keeps its state. To be called before its workflows are declared."""
    if wal:
        prepare(file)
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{file}", "log_level": "ERROR"})


@contextmanager
def launched() -> Iterator[None]:
    """Launch DBOS, and destroy it in the end."""
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()
