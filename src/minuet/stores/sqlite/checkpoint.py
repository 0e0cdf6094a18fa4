"""When the log is brought into the file: by the writer, between groups, so that no commit waits for long.

SQLite's own rule (`wal_autocheckpoint`) would do it inside a commit. Ours is a ladder:

1. When the log has grown by some 4 MiB, a `passive` checkpoint copies what no reader still needs. Once all is
   copied and no reader is in the log, the next commit begins it anew: its file does not grow further.
2. Under steady reading there may always be some reader in the log, and a program from outside may hold a snapshot for
   hours. So where the file of the log has passed 64 MiB nevertheless, a `truncate` checkpoint waits a moment for
   readers to leave; where that fails it is tried again when all is copied, or the log is twice as long.

How long the log is nobody tells: its file keeps its size when it is begun anew. So pages are estimated from commits
and rows, which needs to be right within a factor of a few only. With W1 the rate is the same from 4 to 32 MiB.

A commit that makes the log's file longer costs a third more than one that writes over what is there, since the file
system has to record the new length too. So the file gets its length once, at opening.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from minuet.stores.sqlite.connection import BUSY_TIMEOUT_S
from minuet.stores.sqlite.log import log_of

PASSIVE_PAGES = 1_024
LOG_BYTES_MAX = 64 * 1024 * 1024
TRUNCATE_TIMEOUT_S = 0.1
_PAGE_BYTES = 4_096
# What a commit costs at least, and how many rows make another page; measured with W1, alone and in groups of 500.
_PAGES_A_COMMIT = 4
_ROWS_A_PAGE = 8


def lengthen_log(file: Path) -> None:
    """Give the log's file the length that it will reach, with zeros, which SQLite takes for the end of the log.

    To be called by the only process that writes, between its transactions. No lock of SQLite is on this file, so
    closing it drops none. Where there is no space nothing is lost but some speed.
    """
    with suppress(OSError):
        log = os.open(log_of(file), os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(log).st_size
            if (lacking := PASSIVE_PAGES * _PAGE_BYTES - size) > 0:
                os.pwrite(log, bytes(lacking), size)
                os.fsync(log)
        finally:
            os.close(log)


class Checkpointer:
    """Decides after each group; runs on the thread of the writer, on its connection."""

    def __init__(self, connection: sqlite3.Connection, file: Path | None) -> None:
        self._connection = connection
        self._log = None if file is None else log_of(file)
        self._commits = 0
        self._changes = connection.total_changes
        self._truncate_at_bytes = LOG_BYTES_MAX

    def consider(self) -> None:
        """Checkpoint if the log has grown enough.

        Raises:
            sqlite3.Error: the file cannot be written or synced.
        """
        self._commits += 1
        rows = self._connection.total_changes - self._changes
        if self._log is None or self._commits * _PAGES_A_COMMIT + rows // _ROWS_A_PAGE < PASSIVE_PAGES:
            return
        self._commits, self._changes = 0, self._connection.total_changes
        (_, pages, copied) = self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
        log_bytes = self._log.stat().st_size if self._log.exists() else 0
        if log_bytes < LOG_BYTES_MAX or (copied < pages and log_bytes < self._truncate_at_bytes):
            return
        set_busy_timeout(self._connection, TRUNCATE_TIMEOUT_S)
        try:
            (busy, _, _) = self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        finally:
            set_busy_timeout(self._connection, BUSY_TIMEOUT_S)
        self._truncate_at_bytes = 2 * log_bytes if busy else LOG_BYTES_MAX


def checkpoint_all(connection: sqlite3.Connection) -> None:
    """Bring the whole log into the file, and sync both.

    Raises:
        sqlite3.Error: that failed, or somebody reads the log for too long.
    """
    (busy, _, _) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    if busy:
        raise sqlite3.OperationalError("somebody reads the log, so it cannot be brought into the file")


def set_busy_timeout(connection: sqlite3.Connection, seconds: float) -> None:
    """Say how long a statement may wait for a lock of another connection."""
    connection.execute(f"pragma busy_timeout = {int(seconds * 1000)}").fetchall()
