"""SQLite's own view of the disks in memory: an APSW VFS, through which all reading and writing goes.

It has no shared memory, so a log can be used in `locking_mode=EXCLUSIVE` only, by one connection a disk. SQLite's
randomness and clock come from here too: what is recorded can be recorded again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import apsw

from tests.powercut.disk import DISKS, Disk, Failure, disk_of

NAME = "minuet-powercut"
_NOW_DAYS = 2_461_041.5  # 2026-01-01, as a Julian day
_FAILED = {
    "write": apsw.SQLITE_IOERR_WRITE,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "remove": apsw.SQLITE_IOERR_DELETE,
}
# What SQLite takes a Linux file system for: a write damages nothing beside it, when the power fails.
_CHARACTERISTICS = apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
_SECTOR = 4096


class PowercutVfs(apsw.VFS):
    """Files of the disks in memory."""

    def __init__(self) -> None:
        super().__init__(NAME, base=None, makedefault=True)
        self.random = Random(0)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """Open or make a file; one without a name is of no disk that can fail."""
        flags[1] = flags[0]
        if name is None:
            disk, file = Disk(), "temporary"
            del DISKS[disk.folder]
        else:
            disk, file = disk_of(name if isinstance(name, str) else name.filename())
            if file not in disk.files and not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.exception_for(apsw.SQLITE_CANTOPEN)
        disk.create(file)
        return _File(disk, file)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Remove a file."""
        disk, file = disk_of(filename)
        if file not in disk.files:
            raise apsw.exception_for(apsw.SQLITE_IOERR_DELETE_NOENT)
        _done(lambda: disk.remove(file, syncs=syncdir))

    def xAccess(self, pathname: str, flags: int) -> bool:
        """Tell whether a file is there."""
        disk, file = disk_of(pathname)
        return file in disk.files

    def xFullPathname(self, name: str) -> str:
        """Give a path as it is: it is absolute."""
        return str(Path(name))

    def xRandomness(self, numbytes: int) -> bytes:
        """Give what begins SQLite's own random numbers."""
        return self.random.randbytes(numbytes)

    def xSleep(self, microseconds: int) -> int:
        """Not sleep."""
        return microseconds

    def xCurrentTime(self) -> float:
        """Give an instant at which time stands still."""
        return _NOW_DAYS

    def xCurrentTimeInt64(self) -> int:
        """Give it in milliseconds."""
        return int(_NOW_DAYS * 86_400_000)

    def xGetLastError(self) -> tuple[int, str]:
        """Say nothing further."""
        return 0, ""


class _File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, file: str) -> None:
        self._disk = disk
        self._file = file
        self._content = disk.files[file]

    def xRead(self, amount: int, offset: int) -> bytes:
        """Read; what is beyond the end is short."""
        return bytes(self._content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        """Write."""
        _done(lambda: self._disk.write(self._file, offset, data))

    def xTruncate(self, newsize: int) -> None:
        """Cut off."""
        _done(lambda: self._disk.truncate(self._file, newsize))

    def xSync(self, flags: int) -> None:
        """Sync."""
        _done(lambda: self._disk.sync(self._file))

    def xFileSize(self) -> int:
        """Give the size."""
        return len(self._content)

    def xLock(self, level: int) -> None:
        """Let it pass: there is one connection a disk."""

    def xUnlock(self, level: int) -> None:
        """Let it pass."""

    def xCheckReservedLock(self) -> bool:
        """Say that nobody has it."""
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        """Know of nothing special."""
        return False

    def xSectorSize(self) -> int:
        """Give what SQLite assumes on Linux."""
        return _SECTOR

    def xDeviceCharacteristics(self) -> int:
        """Give what SQLite assumes on Linux."""
        return _CHARACTERISTICS

    def xClose(self) -> None:
        """Close."""


def _done(operation: Callable[[], None]) -> None:
    """Do something on a disk, its failure told as SQLite knows it."""
    try:
        operation()
    except Failure as failure:
        is_full = failure.errno == errno.ENOSPC
        raise apsw.exception_for(apsw.SQLITE_FULL if is_full else _FAILED[failure.op.kind]) from failure


VFS = PowercutVfs()


def reseed(seed: int) -> None:
    """Have SQLite's random numbers begin anew."""
    VFS.random = Random(seed)
    apsw.randomness(0)
