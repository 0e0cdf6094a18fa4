"""W5 by DBOS: one run of many steps, killed at the middle, started again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from dbos import SetWorkflowID

from benchmarks.contest import Figures
from benchmarks.peer.program import DBOS, configure, launched
from benchmarks.w5_long import in_two_processes


def killed_and_again(folder: Path, shared: Path, size: int, *, wal: bool) -> Figures:
    """Perform one run of `size` steps in two processes."""
    return in_two_processes(__name__, folder, shared, size, wal=wal)


def process(folder: Path, shared: Path, size: int, *, dies: bool, wal: bool) -> Figures:
    """Be one of the two processes: the first kills itself at the middle."""
    configure(folder / "w5.db", wal=wal)
    began_at: list[float] = []

    @DBOS.step()
    def add(total: int) -> int:
        if not began_at:
            began_at.append(time.monotonic())
        if dies and total == size // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return total + 1

    @DBOS.workflow()
    def long(rounds: int) -> int:
        total = 0
        for _ in range(rounds):
            total = add(total)
        return total

    with launched():  # takes up by itself what was going on
        if dies:
            with SetWorkflowID("long"):
                long(size)
        handle = DBOS.retrieve_workflow("long")
        assert handle.get_result(polling_interval_sec=0.05) == size
        return {"began_at": began_at[0], "ended_at": time.monotonic()}
