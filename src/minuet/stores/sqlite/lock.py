"""One process a file: an exclusive `flock` on `FILE.lock`, which tells who holds it.

The kernel frees the lock when its process ends, however it ends; what the file says without being locked means
nothing. The lock file is never removed: a second one under the same name could be locked beside the first.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from minuet.errors import AlreadyOpen, StoreError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Whoever looks (`read_lock`) holds the lock for an instant, so an opener asks again before it believes.
_TRIES = 50
_TRY_PAUSE_S = 0.005
_NEVER = threading.Event()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a store: a process of a host since a boot; `address` is where its API listens, if it does."""

    pid: int
    host: str
    boot_id: str
    started_at_ms: int
    address: str | None = None


class StoreLock:
    """The lock of one store, held from `acquire` to `release`."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._file: int | None = None
        self._holder: Holder | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            AlreadyOpen: another process, or another store of this one, holds it.
        """
        path = _lock_path(self._store)
        try:
            # The default store is in a folder of its own; one that lies deeper than that is a misspelt path.
            path.parent.mkdir(exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"the lock file {path} cannot be opened: {error.strerror}",
                remedy="Let this user write in that directory, or make it",
                store=str(self._store),
            ) from error
        try:
            self._flock(file)
            os.pwrite(file, b"{}", 0)
            self._holder = Holder(
                pid=os.getpid(),
                host=socket.gethostname(),
                boot_id=_BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else "",
                started_at_ms=os.fstat(file).st_mtime_ns // 1_000_000,
            )
            self._file = file
            self._write()
        except BaseException:
            self._file = None
            os.close(file)
            raise

    def publish_address(self, address: str | None) -> None:
        """Tell others where the API of this process listens."""
        assert self._holder is not None, "the lock is not held"
        self._holder = replace(self._holder, address=address)
        self._write()

    def release(self) -> None:
        """Let others have it. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def forget(self) -> None:
        """Close the file without unlocking it: for a forked child, whose parent holds the lock."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _flock(self, file: int) -> None:
        for _ in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _pause()
            else:
                return
        holder = _read_holder(file)
        if holder is None:
            raise AlreadyOpen(
                f"{self._store} is open in another process, which has not said which",
                remedy="Try again, or stop that process",
                store=str(self._store),
            )
        where = f", API at {holder.address}" if holder.address else ""
        raise AlreadyOpen(
            f"{self._store} is open in process {holder.pid} on {holder.host} "
            f"since {_instant(holder.started_at_ms)}{where}",
            remedy="Talk to that process, or stop it: one process writes a SQLite store",
            store=str(self._store),
            **asdict(holder),
        )

    def _write(self) -> None:
        assert self._file is not None, "the lock is not held"
        assert self._holder is not None, "the lock is not held"
        text = json.dumps(asdict(self._holder)).encode()
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))


def read_lock(store: Path) -> Holder | None:
    """Tell who holds the store at this path; None where nobody does.

    Raises:
        AlreadyOpen: it is held by a process that has not said which.
    """
    try:
        file = os.open(_lock_path(store.resolve()), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        for _ in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if (holder := _read_holder(file)) is not None:
                    return holder
                _pause()  # it has just been taken, or is being written
            else:
                return None
    finally:
        os.close(file)
    raise AlreadyOpen(
        f"{store} is open in another process, which has not said which", remedy="Try again", store=str(store)
    )


def _lock_path(store: Path) -> Path:
    return store.with_name(f"{store.name}.lock")


def _read_holder(file: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(file, 4096, 0)))
    except (ValueError, TypeError):
        return None


def _pause() -> None:
    _NEVER.wait(_TRY_PAUSE_S)


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).isoformat().replace("+00:00", "Z")
