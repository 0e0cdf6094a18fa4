"""A disk in memory: it records what it is told, fails when it is to, and tells what a power cut may leave of it.

What is written is seen at once, as through the cache of an operating system; it is sure to be there after a power cut
only when its file was synced. Of what was not, each write is kept, lost, or torn at sectors of 512 bytes, in any
combination and order; where a file had grown, zeros or junk may lie. A file that was removed may be there again, until
its directory was synced. A sync that fails drops what was to be written, and a repeated one says that all is well: so
does Linux. Not modelled: files that were created and are gone, and writes that go elsewhere.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

SECTOR = 512
_KEPT = (0.0, 0.1, 0.5, 0.9, 1.0)  # one of these for each image: how likely a write is kept
_TORN = (0.0, 0.1, 0.6)  # likewise: how likely one is torn
_LOGS = ("-wal", "-journal")


class Op(NamedTuple):
    """What a disk was told: `write`, `truncate` (to `at`), `sync`, `sync-dir`, `remove`; `drop` is a failed sync."""

    kind: str
    file: str
    at: int = 0
    data: bytes = b""


class Failure(OSError):
    """An operation that failed: `errno` is EIO or ENOSPC. `op` is what it was to do."""

    def __init__(self, code: int, op: Op) -> None:
        super().__init__(code, os.strerror(code))
        self.op = op


class Disk:
    """Files by name, the record of what was done to them, and what is to fail.

    `fails` is asked before each operation: of its number from 0, and of the operation; it gives an `errno`, or 0.
    `on_failure` is called when one has failed. While `is_dead` all of them fail, and leave no trace: whoever had the
    disk in use was killed, and what it still does is not done.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.start = dict(files or {})
        self.files = {name: bytearray(content) for name, content in self.start.items()}
        self.record: list[Op] = []
        self.asked = 0
        self.failed: list[Op] = []
        self.first_failure: int | None = None  # how long the record was then
        self.fails: Callable[[int, Op], int] = lambda _, __: 0
        self.on_failure: Callable[[], None] = lambda: None
        self.is_dead = False
        self.users: list[Callable[[], None]] = []  # closes each
        self.folder = Path(f"/disk-{next(_NUMBERS)}")
        self._is_new = set[str]()
        DISKS[self.folder] = self

    def close(self) -> None:
        """Forget this disk; whoever still has it in use is closed, and does nothing more."""
        self.is_dead = True
        while self.users:
            self.users.pop()()
        DISKS.pop(self.folder, None)

    def create(self, file: str) -> None:
        """Make an empty file, unless it is there."""
        if file not in self.files:
            self.files[file] = bytearray()
            if file.endswith(_LOGS):
                self._is_new.add(file)

    def write(self, file: str, at: int, data: bytes) -> None:
        """Write; of a write that fails half may have been done.

        Raises:
            Failure: it was to fail.
        """
        op = Op("write", file, at, bytes(data))
        half = op._replace(data=op.data[: len(data) // 2 // SECTOR * SECTOR])
        self._ask(op, half if half.data else None)

    def truncate(self, file: str, size: int) -> None:
        """Cut off, or lengthen. Raises Failure."""
        self._ask(Op("truncate", file, size))

    def sync(self, file: str) -> None:
        """Sync a file; a log that is new with its directory, as SQLite does it.

        Raises:
            Failure: it was to fail; what was not synced is lost, or is not, and is not tried again.
        """
        self._ask(Op("sync", file), Op("drop", file))
        if file in self._is_new:
            self._is_new.discard(file)
            self.record.append(Op("sync-dir", ""))

    def remove(self, file: str, *, syncs: bool) -> None:
        """Remove a file, and sync its directory if so asked. Raises Failure."""
        self._ask(Op("remove", file))
        if syncs:
            self.record.append(Op("sync-dir", ""))

    def image(self, chance: Random, counts: Counter[str], cut: int | None = None) -> dict[str, bytes]:
        """Give what a power cut leaves, now or before the operation `cut` of the record."""
        platter = Platter(self.start)
        for op in self.record[:cut]:
            platter.take(op)
        return platter.image(chance, counts)

    def _ask(self, op: Op, instead: Op | None = None) -> None:
        """Do something, unless it is to fail; `instead` is what an I/O error does in its place."""
        if self.is_dead:
            raise Failure(errno.EIO, op)
        number, self.asked = self.asked, self.asked + 1
        if code := self.fails(number, op):
            if instead is not None and code == errno.EIO:
                self._do(instead)
            self.failed.append(op)
            if self.first_failure is None:
                self.first_failure = len(self.record)
            self.on_failure()
            raise Failure(code, op)
        self._do(op)

    def _do(self, op: Op) -> None:
        self.record.append(op)
        if op.kind == "remove":
            self.files.pop(op.file, None)
        elif op.kind in ("write", "truncate"):
            _apply(self.files[op.file], op)


DISKS: dict[Path, Disk] = {}
"""All disks, by their folders."""
_NUMBERS = iter(range(1, 1 << 62))


def disk_of(path: str | os.PathLike[str]) -> tuple[Disk, str]:
    """Give the disk of a path, and the name of the file there."""
    path = Path(path)
    return DISKS[path.parent], path.name


class Platter:
    """What of a disk is sure to be there, and what may be; taken operation by operation."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._sure = {name: bytearray(content) for name, content in files.items()}
        self._open: dict[str, list[Op]] = {}
        self._removed: dict[str, tuple[bytearray, list[Op]]] = {}
        self._taken = 0

    def take(self, op: Op) -> None:
        """Take one more operation."""
        self._taken += 1
        match op.kind:
            case "write" | "truncate":
                self._removed.pop(op.file, None)
                self._open.setdefault(op.file, []).append(op)
            case "sync":
                sure = self._sure.setdefault(op.file, bytearray())
                for done in self._open.pop(op.file, ()):
                    _apply(sure, done)
            case "drop":
                sure = self._sure.setdefault(op.file, bytearray())
                _settle(sure, self._open.pop(op.file, ()), Random(self._taken), Counter())
            case "remove":
                self._removed[op.file] = self._sure.pop(op.file, bytearray()), self._open.pop(op.file, [])
            case _:
                self._removed.clear()

    def is_open(self, file: str) -> bool:
        """Whether something was written to a file, and is not synced."""
        return bool(self._open.get(file))

    def image(self, chance: Random, counts: Counter[str]) -> dict[str, bytes]:
        """Give the files that a power cut leaves now; counts what became of what was not synced."""
        files = {}
        for name in sorted(self._sure.keys() | self._open.keys() | self._removed.keys()):
            if name in self._removed:
                if chance.random() < 0.5:
                    continue
                counts["files not removed"] += 1
                content, ops = bytearray(self._removed[name][0]), self._removed[name][1]
            else:
                content, ops = bytearray(self._sure.get(name, b"")), self._open.get(name, [])
            _settle(content, ops, chance, counts)
            files[name] = bytes(content)
        return files


def _settle(content: bytearray, ops: Iterable[Op], chance: Random, counts: Counter[str]) -> None:
    """Apply some of these operations."""
    keep, tear = chance.choice(_KEPT), chance.choice(_TORN)
    for op in ops:
        drawn = chance.random()
        if op.kind == "write" and len(op.data) > SECTOR - op.at % SECTOR and chance.random() < tear:
            for at, data in _sectors(op):
                if chance.random() < 0.5:
                    _apply(content, op._replace(at=at, data=data))
            counts["writes torn"] += 1
        elif drawn < keep:
            _apply(content, op)
            counts["writes kept"] += 1
        else:
            counts["writes lost"] += 1
            end = op.at + len(op.data)
            if op.kind == "write" and end > len(content) and chance.random() < 0.3:  # longer, but not written
                junk = chance.randbytes(end - len(content)) if chance.random() < 0.5 else bytes(end - len(content))
                content += junk
                counts["junk at the end"] += 1


def _sectors(op: Op) -> Iterable[tuple[int, bytes]]:
    at, end = op.at, op.at + len(op.data)
    while at < end:
        until = min(end, at - at % SECTOR + SECTOR)
        yield at, op.data[at - op.at : until - op.at]
        at = until


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        if len(content) > op.at:
            del content[op.at :]
        else:
            content += bytes(op.at - len(content))
    elif op.kind == "write":
        if len(content) < op.at:
            content += bytes(op.at - len(content))
        content[op.at : op.at + len(op.data)] = op.data


class SimulatedOs:
    """As much of the module `os` as the store uses on its log, for files of these disks."""

    O_RDWR, O_CLOEXEC = os.O_RDWR, os.O_CLOEXEC
    strerror = staticmethod(os.strerror)

    def __init__(self) -> None:
        self._open: dict[int, tuple[Disk, str]] = {}
        self._numbers = iter(range(1 << 20, 1 << 62))

    def open(self, path: str | os.PathLike[str], flags: int) -> int:
        """Open a file that is there."""
        disk, file = disk_of(path)
        if file not in disk.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
        self._open[number := next(self._numbers)] = disk, file
        return number

    def fstat(self, number: int) -> os.stat_result:
        """Give its size, and nothing else."""
        disk, file = self._open[number]
        return os.stat_result((0, 0, 0, 0, 0, 0, len(disk.files[file]), 0, 0, 0))

    def pread(self, number: int, size: int, at: int) -> bytes:
        """Read."""
        disk, file = self._open[number]
        return bytes(disk.files[file][at : at + size])

    def pwrite(self, number: int, data: bytes, at: int) -> int:
        """Write."""
        disk, file = self._open[number]
        disk.write(file, at, data)
        return len(data)

    def fsync(self, number: int) -> None:
        """Sync."""
        disk, file = self._open[number]
        disk.sync(file)

    def close(self, number: int) -> None:
        """Close."""
        del self._open[number]
