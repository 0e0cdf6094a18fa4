"""One process holds a file, and everybody can see which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minuet.errors import AlreadyOpen, StoreError
from minuet.stores.sqlite.lock import StoreLock, read_lock

HOLD = """
import sys
from pathlib import Path
from minuet.stores.sqlite.lock import StoreLock
lock = StoreLock(Path(sys.argv[1]))
lock.acquire()
lock.publish_address("http://127.0.0.1:8640")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


def test_nobody_holds_a_store_that_was_never_opened(store: Path) -> None:
    assert read_lock(store) is None


def test_a_held_lock_says_who_holds_it(store: Path) -> None:
    lock = StoreLock(store)
    lock.acquire()
    try:
        holder = read_lock(store)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert holder.address is None
        assert holder.host
        assert holder.started_at_ms > 1_600_000_000_000
        lock.publish_address("http://127.0.0.1:8640")
        again = read_lock(store)
        assert again is not None
        assert again.address == "http://127.0.0.1:8640"
        assert again.started_at_ms == holder.started_at_ms
        lock.publish_address(None)
        shorter = read_lock(store)
        assert shorter == holder
    finally:
        lock.release()
    assert read_lock(store) is None


def test_a_released_lock_can_be_taken_again(store: Path) -> None:
    lock = StoreLock(store)
    for _ in range(3):
        lock.acquire()
        lock.release()
        lock.release()


def test_another_process_is_named(store: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(AlreadyOpen) as caught:
            StoreLock(store).acquire()
        assert f"process {other.pid}" in str(caught.value)
        assert "since 20" in str(caught.value)
        assert "8640" in str(caught.value)
        assert caught.value.subject["pid"] == other.pid
        assert caught.value.subject["address"] == "http://127.0.0.1:8640"
        other.kill()
        other.wait()
    # What the file still says means nothing: the kernel has freed the lock.
    assert "8640" in store.with_name("shop.db.lock").read_text()
    assert read_lock(store) is None
    lock = StoreLock(store)
    lock.acquire()
    lock.release()


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"pid": 1}', "[1]"])
def test_a_holder_that_does_not_say_who_it_is_still_holds(store: Path, text: str) -> None:
    lock = StoreLock(store)
    lock.acquire()
    store.with_name("shop.db.lock").write_text(text)
    with pytest.raises(AlreadyOpen):
        StoreLock(store).acquire()
    with pytest.raises(AlreadyOpen):
        read_lock(store)
    lock.release()


def test_looking_does_not_keep_others_from_opening(store: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            read_lock(store)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            lock = StoreLock(store)
            lock.acquire()
            lock.release()
    finally:
        done.set()
        looking.join()


def test_the_directory_of_a_new_store_is_made(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path / ".minuet" / "shop.db")
    lock.acquire()
    lock.release()
    assert (tmp_path / ".minuet").is_dir()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        StoreLock(tmp_path / "nowhere" / "deep" / "shop.db").acquire()


def test_the_file_is_json_for_other_programs(store: Path) -> None:
    lock = StoreLock(store)
    lock.acquire()
    said = json.loads(store.with_name("shop.db.lock").read_text())
    lock.release()
    assert set(said) == {"pid", "host", "boot_id", "started_at_ms", "address"}
