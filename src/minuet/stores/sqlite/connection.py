"""Connections: one that writes and checkpoints, others that only read; and what their errors mean.

SQLite 3.7.0 to 3.51.2 may corrupt a file when two connections write or checkpoint at once. So exactly one does,
in one process (see `lock.py`), whatever the version. Readers are opened `mode=ro`: such a connection cannot
checkpoint, not even when it is the last to close; `query_only` alone could.
"""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

from minuet.errors import SettingsError, StoreDamaged, StoreError, StoreFull, StoreUnavailable
from minuet.stores.sqlite.log import write_log_again

SQLITE_FLOOR = (3, 38, 0)  # STRICT tables came with 3.37, `unixepoch` and built-in JSON with 3.38
BUSY_TIMEOUT_S = 5.0  # how long an outside tool may hold the file before a group is given up
_CACHE_KIB = 8192
_STATEMENTS_CACHED = 256
_MOUNTS = Path("/proc/mounts")
_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|coda|ceph|lustre|gpfs|beegfs|glusterfs|ocfs2|gfs2|davfs2?|vboxsf"
    r"|fuse\.(sshfs|davfs2?|glusterfs|ceph(-fuse)?|s3fs|s3ql|gcsfuse|goofys|rclone|juicefs|mount-s3|curlftpfs|nfs))"
)


def open_writer(file: Path | None) -> sqlite3.Connection:
    """Open the connection that writes; None means a database in memory, which only this connection sees.

    Raises:
        StoreDamaged: the file is not a SQLite database, or is damaged.
        StoreFull, StoreUnavailable: it, or its log, cannot be written.
    """
    require_floor()
    if file is not None:
        write_log_again(file)
    try:
        connection = _connect(":memory:" if file is None else f"file:{quote(str(file))}?mode=rwc")
    except sqlite3.Error as error:
        raise translate(error, file) from error
    try:
        _demand(connection, "journal_mode", "memory" if file is None else "wal")
        _demand(connection, "synchronous", 2)  # FULL: the log is synced before a commit is acknowledged
        _demand(connection, "foreign_keys", 1)  # for the tables of users; ours have none, for speed
        _demand(connection, "trusted_schema", 0)
        _demand(connection, "wal_autocheckpoint", 0)  # the writer thread decides, between groups
        connection.execute("pragma mmap_size = 0")
        connection.execute(f"pragma cache_size = -{_CACHE_KIB}")
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, file) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(file: Path) -> sqlite3.Connection:
    """Open a connection that reads and can do nothing else."""
    require_floor()
    try:
        connection = _connect(f"file:{quote(str(file))}?mode=ro")
        try:
            _demand(connection, "query_only", 1)
            _demand(connection, "trusted_schema", 0)
            _demand(connection, "wal_autocheckpoint", 0)
            connection.execute("pragma mmap_size = 0")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, file) from error
    return connection


def require_floor() -> None:
    """Refuse a SQLite library that is too old.

    Raises:
        StoreError: it is below the floor.
    """
    if sqlite3.sqlite_version_info < SQLITE_FLOOR:
        floor = ".".join(map(str, SQLITE_FLOOR))
        raise StoreError(
            f"this Python has SQLite {sqlite3.sqlite_version}, and {floor} is needed",
            remedy="Use a Python that was built with a newer SQLite, or a PostgreSQL store",
        )


def refuse_network(file: Path) -> None:
    """Refuse a file on a network file system: WAL shares memory, and locks are not what they seem there.

    Raises:
        SettingsError: it is on one; where the system does not say, nothing is refused.
    """
    kind = _file_system(file)
    if _NETWORK.fullmatch(kind):
        raise SettingsError(
            f"{file} is on a network file system ({kind}), where SQLite can lose or corrupt data",
            remedy="Put the store on a local disk, or use a PostgreSQL store",
            store=str(file),
            file_system=kind,
        )


def translate(error: sqlite3.Error, file: Path | None) -> StoreError:
    """Say what an error of SQLite means for what was to be recorded."""
    where = "the store in memory" if file is None else str(file)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    about = {"store": where, "sqlite": name}
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            f"there is no space left for {where}; nothing was recorded", remedy="Free some space; it goes on", **about
        )
    if code == sqlite3.SQLITE_NOTADB:
        return StoreDamaged(
            f"{where} is not a SQLite database", remedy="Check the store URL, or restore a backup", **about
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreDamaged(
            f"{where} is damaged: {error}", remedy="Stop, keep a copy of it, and restore a backup", **about
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(
            f"another program holds {where}; nothing was recorded", remedy="Close that program; it goes on", **about
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreUnavailable(
            f"{where} cannot be opened for this: {error}",
            remedy="See that its directory exists, and that this user may write there",
            **about,
        )
    return StoreUnavailable(
        f"{where} did not answer: {error} ({name})",
        remedy="It is opened again by itself; look at the disk and its log if this repeats",
        **about,
    )


def _connect(database: str) -> sqlite3.Connection:
    # Autocommit: transactions are begun and ended by statements of ours. The store hands a connection from the
    # thread that opens to the one that works, so SQLite's own check of threads is off.
    return sqlite3.connect(
        database,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_CACHED,
        uri=True,
    )


def _demand(connection: sqlite3.Connection, pragma: str, value: str | int) -> None:
    """Set a pragma and read it back: SQLite does not complain of one that it cannot set."""
    connection.execute(f"pragma {pragma} = {value}").fetchall()
    (got,) = connection.execute(f"pragma {pragma}").fetchone()
    if got != value:
        raise StoreUnavailable(
            f"SQLite keeps {pragma} at {got}, and {value} is needed",
            remedy="Put the store on a local disk whose directory this user may write",
        )


def _file_system(file: Path) -> str:
    """Give the type of the file system that holds a path, as `/proc/mounts` names it; empty where there is none."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    path = os.path.realpath(file)
    kind, longest = "", -1
    for mount in mounts:
        _, place, name, *_ = mount.split(" ")
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place)
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= longest:
            kind, longest = name, len(place)
    return kind
