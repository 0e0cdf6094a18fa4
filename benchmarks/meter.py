"""What is measured inside the process that works: time, processor time, memory, and the disk beside it."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.contest import Figures

LOG_FRAME_BYTES = 4_096 + 24  # what SQLite appends to its log for one changed page


class Meter:
    """Measures a block: seconds, and processor seconds (user and system) of this process and its ended children."""

    def __enter__(self) -> Self:
        self._cpu_s = _cpu_s()
        self._began_s = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.secs = time.perf_counter() - self._began_s
        self.cpu_s = _cpu_s() - self._cpu_s

    def figures(self, count: int) -> Figures:
        """Give the figures of a block in which something was done `count` times."""
        return {
            "per_s": count / self.secs,
            "cpu_s_per_1000": self.cpu_s / count * 1000,
            "secs": self.secs,
            "memory_mb": peak_mb(),
        }


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def peak_mb() -> float:
    """Give the most memory that this process has had, in MB.

    `ru_maxrss` would begin with what the process that started this one had.
    """
    return _status_mb("VmHWM") or _maxrss_mb()


def resident_mb(process: int | str = "self") -> float:
    """Give the memory that a process has now, in MB."""
    return _status_mb("VmRSS", process) or _maxrss_mb()


def _status_mb(name: str, process: int | str = "self") -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name)), 0.0)


def _maxrss_mb() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def percentiles(seconds: Sequence[float]) -> Figures:
    """Give p50 and p99 of some durations."""
    ordered = sorted(seconds)
    return {
        "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
    }


class Disk:
    """Measures the disk: writes a frame of a log and syncs it, `count` times at most.

    A log `grows`, unless its file has its length before (as ours has): then the frame is written over what is there,
    and a file system has less to record.
    """

    def __init__(self, folder: Path, count: int, *, grows: bool = True) -> None:
        self._file = folder / f"disk-{'grows' if grows else 'has-its-length'}.bin"
        self._frame = os.urandom(LOG_FRAME_BYTES)
        self._sync = getattr(os, "fdatasync", os.fsync)
        self.taken_s: list[float] = []
        self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT)
        if not grows:
            os.pwrite(self._descriptor, bytes(LOG_FRAME_BYTES * count), 0)
            os.fsync(self._descriptor)

    def sync(self) -> None:
        """Write and sync once."""
        began_s = time.perf_counter()
        os.pwrite(self._descriptor, self._frame, len(self.taken_s) * LOG_FRAME_BYTES)
        self._sync(self._descriptor)
        self.taken_s.append(time.perf_counter() - began_s)

    @property
    def median_ms(self) -> float:
        """Give the median of a sync, in milliseconds."""
        return statistics.median(self.taken_s) * 1000

    def close(self) -> None:
        """Remove the file."""
        os.close(self._descriptor)
        self._file.unlink()


async def in_closed_loop(count: int, at_once: int, perform: Callable[[int], Awaitable[object]]) -> None:
    """Do something `count` times, so many at once; each that ends makes room for the next."""
    left = iter(range(count))

    async def client() -> None:
        for i in left:
            await perform(i)

    async with asyncio.TaskGroup() as clients:
        for _ in range(at_once):
            clients.create_task(client())
