"""The file of the write-ahead log: its name, and its bytes written again where they may be in memory only.

No lock of SQLite is on this file, so closing it drops none.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from minuet.errors import StoreFull, StoreUnavailable

_STEP_BYTES = 1024 * 1024


def log_of(file: Path) -> Path:
    """Give the file of the write-ahead log of a database."""
    return file.with_name(f"{file.name}-wal")


def write_log_again(file: Path) -> None:
    """Write the log as it is read, and sync it; to be called by the only process that writes, before it opens the file.

    When a sync fails the kernel drops the pages: they can still be read, and are not on the disk. If that process dies,
    the next one would take them for part of the log, and record behind them what a power cut then cuts off.

    Raises:
        StoreFull, StoreUnavailable: it cannot be written.
    """
    try:
        log = os.open(log_of(file), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # there is none; or it is not ours to write, which SQLite says better
    try:
        for at in range(0, os.fstat(log).st_size, _STEP_BYTES):
            part = os.pread(log, _STEP_BYTES, at)
            if os.pwrite(log, part, at) != len(part):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(log)
    except OSError as error:
        told = StoreFull if error.errno == errno.ENOSPC else StoreUnavailable
        raise told(
            f"the log of {file} cannot be written again: {error}",
            remedy="It is tried again; look at the disk and its log if this repeats",
            store=str(file),
        ) from error
    finally:
        os.close(log)
