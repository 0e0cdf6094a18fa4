"""W7 by DBOS: from the start of a process to the end of its first run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contest import Figures
from benchmarks.peer.program import prepare
from benchmarks.w7_start import started


def first_run(folder: Path, shared: Path, size: int, *, wal: bool) -> Figures:
    """Measure a process over a store with `size` ended runs."""
    store = folder / "w7.db"
    if wal:
        prepare(store)
    return started(Path(__file__).with_name("w7_program.py"), store, size)
