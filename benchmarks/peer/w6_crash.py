"""W6 by DBOS: `kill -9` with many runs in flight, started again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from dbos import SetWorkflowID

from benchmarks.contest import Figures
from benchmarks.peer.program import DBOS, configure, launched
from benchmarks.w6_crash import BODIES, STARTED, Bodies, in_two_processes, killed_at


def killed_and_again(folder: Path, shared: Path, size: int, *, wal: bool) -> Figures:
    """Kill a process with `size` runs in flight, and let another take them up."""
    return in_two_processes(__name__, folder, shared, size, wal=wal)


def process(folder: Path, shared: Path, size: int, *, dies: bool, wal: bool) -> Figures:
    """Be one of the two processes."""
    configure(folder / "w6.db", wal=wal)
    bodies = Bodies(folder / BODIES, killed_at(size) if dies else None)

    @DBOS.step()
    def reserve(order: str) -> str:
        bodies.note(order, "reserve")
        return f"{order} {'n' * 90}"

    @DBOS.step()
    def charge(reserved: str) -> str:
        bodies.note(reserved, "charge")
        return reserved

    @DBOS.step()
    def ship(charged: str) -> str:
        bodies.note(charged, "ship")
        return charged

    @DBOS.workflow()
    def sequence(order: str) -> str:
        return ship(charge(reserve(order)))

    with launched():  # takes up by itself what was going on
        if dies:
            with (folder / STARTED).open("a") as started:
                for i in range(size):
                    with SetWorkflowID(f"{i}"):
                        DBOS.start_workflow(sequence, f"{i}")
                    print(i, file=started, flush=True)
            time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        while DBOS.list_workflows(status=["PENDING", "ENQUEUED"], limit=1):
            time.sleep(0.01)
        ended = len(DBOS.list_workflows(status="SUCCESS", load_input=False, load_output=False))
        return {"ended_at": time.monotonic(), "ended": ended}
