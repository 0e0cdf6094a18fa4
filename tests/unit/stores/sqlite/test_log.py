"""The file of the log, written again before it is trusted."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from minuet.errors import StoreFull, StoreUnavailable
from minuet.stores.sqlite import log
from minuet.stores.sqlite.connection import open_writer
from minuet.stores.sqlite.log import log_of, write_log_again


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """Give a copy of a file and its log, as a process leaves them that was killed."""
    file, copy = tmp_path / "store.db", tmp_path / "copy.db"
    connection = open_writer(file)
    connection.execute("create table t (n integer)")
    connection.execute("insert into t select value from json_each(?)", (str(list(range(1_000))),))
    for of in (Path, log_of):
        of(copy).write_bytes(of(file).read_bytes())
    connection.close()
    return copy


def test_a_log_that_is_written_again_is_the_same_and_synced(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, done = log_of(left).read_bytes(), list[str]()
    pwrite, fsync = os.pwrite, os.fsync

    def write(number: int, data: bytes, at: int) -> int:
        done.append("write")
        return pwrite(number, data, at)

    def sync(number: int) -> None:
        done.append("sync")
        fsync(number)

    monkeypatch.setattr(log, "_STEP_BYTES", 5_000)
    monkeypatch.setattr(os, "pwrite", write)
    monkeypatch.setattr(os, "fsync", sync)
    write_log_again(left)
    assert log_of(left).read_bytes() == before
    assert done == ["write"] * -(-len(before) // 5_000) + ["sync"]


@pytest.mark.parametrize(("code", "error"), [(errno.EIO, StoreUnavailable), (errno.ENOSPC, StoreFull)])
def test_a_store_whose_log_cannot_be_written_again_is_not_opened(
    left: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    def fsync(_: int) -> NoReturn:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fsync)
        with pytest.raises(error, match="cannot be written again"):
            open_writer(left)
    connection = open_writer(left)
    assert connection.execute("select count(*) from t").fetchone() == (1_000,)
    connection.close()


def test_where_there_is_no_log_nothing_is_made(tmp_path: Path) -> None:
    write_log_again(tmp_path / "store.db")
    assert list(tmp_path.iterdir()) == []
