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


def resident_mb() -> float:
    """Give the memory that this process has now, in MB."""
    return _status_mb("VmRSS") or _maxrss_mb()


def _status_mb(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
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


def syncs_ms(folder: Path, count: int, *, grows: bool = True) -> list[float]:
    """Measure the disk: write a frame of a log and sync it, `count` times; ms each.

    A log `grows`, unless its file has its length before (as ours has): then the frame is written over what is there,
    and a file system has less to record.
    """
    file = folder / "sync.bin"
    frame = os.urandom(LOG_FRAME_BYTES)
    found = []
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    sync = getattr(os, "fdatasync", os.fsync)
    try:
        if not grows:
            os.pwrite(descriptor, bytes(LOG_FRAME_BYTES * count), 0)
            os.fsync(descriptor)
        for i in range(count):
            began = time.perf_counter()
            os.pwrite(descriptor, frame, i * LOG_FRAME_BYTES)
            sync(descriptor)
            found.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(descriptor)
        file.unlink()
    return found


async def in_closed_loop(count: int, at_once: int, perform: Callable[[int], Awaitable[object]]) -> None:
    """Do something `count` times, so many at once; each that ends makes room for the next."""
    left = iter(range(count))

    async def client() -> None:
        for i in left:
            await perform(i)

    async with asyncio.TaskGroup() as clients:
        for _ in range(at_once):
            clients.create_task(client())
