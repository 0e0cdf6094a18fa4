"""How connections are set up, and what their errors mean."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from minuet.errors import SettingsError, StoreDamaged, StoreError, StoreFull, StoreUnavailable
from minuet.stores.sqlite import connection as module
from minuet.stores.sqlite.connection import open_reader, open_writer, refuse_network, require_floor, translate


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"pragma {name}").fetchone()[0]


def test_the_writer_is_durable_and_checkpoints_only_when_told(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "s.db")
    found = {name: pragma(connection, name) for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert pragma(connection, "wal_autocheckpoint") == 0
    assert pragma(connection, "trusted_schema") == 0
    assert pragma(connection, "mmap_size") == 0
    assert pragma(connection, "busy_timeout") == 5_000
    connection.close()


def test_a_reader_cannot_write_nor_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    writer = open_writer(file)
    writer.execute("create table t (n integer)")
    reader = open_reader(file)
    assert reader.execute("select count(*) from t").fetchone() == (0,)
    for statement in ("insert into t values (1)", "pragma query_only = 0", "create table u (n integer)"):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute(statement)
            reader.execute("insert into t values (1)")
    writer.close()
    log = file.with_name("s.db-wal")
    size = log.stat().st_size
    assert size > 0
    reader.close()
    assert log.stat().st_size == size, "the reader checkpointed when it closed last"


def test_names_of_files_are_not_read_as_options(tmp_path: Path) -> None:
    file = tmp_path / "odd ?mode=memory#x%41.db"
    open_writer(file).close()
    assert file.exists()


@pytest.mark.parametrize(
    ("mounts", "refused"),
    [
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n", True),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data fuse.sshfs rw 0 0\n", True),
        ("server:/x / nfs rw 0 0\n/dev/sda1 /data ext4 rw 0 0\n", False),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data/shop nfs4 rw 0 0\n", True),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data/sho nfs4 rw 0 0\n", False),
        ("server:/x / nfs rw 0 0\n//other/s /data cifs rw 0 0\n/dev/sda1 /data xfs rw 0 0\n", False),
        ("/dev/sda1 / ext4 rw 0 0\n", False),
        ("overlay / overlay rw 0 0\n", False),
    ],
)
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, *, refused: bool
) -> None:
    table = tmp_path / "mounts"
    table.write_text(mounts)
    monkeypatch.setattr(module, "_MOUNTS", table)
    file = Path("/data/shop/s.db")
    if refused:
        with pytest.raises(SettingsError, match="network file system"):
            refuse_network(file)
    else:
        refuse_network(file)


def test_a_mount_point_with_a_space_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mounts"
    table.write_text("server:/x /my\\040data nfs4 rw 0 0\n")
    monkeypatch.setattr(module, "_MOUNTS", table)
    with pytest.raises(SettingsError):
        refuse_network(Path("/my data/s.db"))


def test_where_nobody_tells_the_file_system_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOUNTS", tmp_path / "missing")
    refuse_network(Path("/data/s.db"))


def test_a_library_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_floor()
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    with pytest.raises(StoreError, match=r"3\.38\.0 is needed"):
        require_floor()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
        (sqlite3.SQLITE_CORRUPT, StoreDamaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreDamaged),
        (sqlite3.SQLITE_NOTADB, StoreDamaged),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StoreUnavailable),
    ],
)
def test_errors_of_sqlite_say_what_became_of_what_was_to_be_recorded(code: int, kind: type[StoreError]) -> None:
    error = sqlite3.OperationalError("it went wrong")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_SOMETHING"
    told = translate(error, Path("shop.db"))
    assert type(told) is kind
    assert "shop.db" in told.message
    assert told.remedy
    assert told.subject["sqlite"] == "SQLITE_SOMETHING"


def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    file.write_text("no database at all" * 500)
    with pytest.raises(StoreDamaged, match="not a SQLite database"):
        open_writer(file)
