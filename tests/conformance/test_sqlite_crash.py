"""`kill -9` at any moment: whatever was acknowledged is there, and each handler's effect is there with its run."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.store_desk import desk_of

WRITER = Path(__file__).with_name("sqlite_writer.py")
ROUNDS = 12


def acknowledged_until_killed(file: Path, after_s: float) -> set[int]:
    """Run the writer, kill it some time after its first acknowledgement, give what it acknowledged."""
    with subprocess.Popen([sys.executable, str(WRITER), str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.endswith(b"\n"), "the writer died by itself"
        killer = threading.Timer(after_s, process.send_signal, [signal.SIGKILL])
        killer.start()
        lines = [first, *process.stdout]
        killer.join()
    assert process.returncode == -signal.SIGKILL
    return {int(line) for line in lines if line.endswith(b"\n")}


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    acknowledged: set[int] = set()
    chance = random.Random(1)
    for _ in range(ROUNDS):
        acknowledged |= acknowledged_until_killed(file, chance.uniform(0, 0.25))
        check = sqlite3.connect(file)
        assert check.execute("pragma integrity_check").fetchone() == ("ok",)
        runs = {run for (run,) in check.execute("select run from minuet_run")}
        effects = [run for (run,) in check.execute("select run from effects order by run")]
        facts = {run for (run,) in check.execute("select run from minuet_fact")}
        check.close()
        assert acknowledged <= runs, "something acknowledged is lost"
        assert effects == sorted(run for run in runs if run % 10 == 0), "an effect without its run, or twice"
        assert facts == {run for run in runs if run % 10}, "half of a decision is there"
    assert len(acknowledged) > 100 * ROUNDS, "too little was written to mean anything"

    async def reopen() -> int:
        async with desk_of(SqliteStore(file)) as desk:
            return sum((await desk.store.count_runs()).values())

    assert asyncio.run(reopen()) > 0


LIMITED = """
import asyncio, resource, signal, sys
from pathlib import Path
from minuet.errors import StoreError
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.store_desk import decision, desk_of, fact_row, start

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    file = Path(sys.argv[1])
    acknowledged, failed = [], []
    async with desk_of(SqliteStore(file)) as desk:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        for round in range(3):
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000 + 3_000_000 * round, hard))
            for n in range(300):
                run = round * 1000 + n + 1
                rows = start(run)
                rows.facts = [fact_row(run, "1", value="x" * 40_000)]
                (outcome,) = await desk.outcomes(rows)
                if outcome.error is None:
                    acknowledged.append(run)
                else:
                    assert isinstance(outcome.error, StoreError), outcome.error
                    assert outcome.error.remedy
                    failed.append(run)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            await desk.record(start(round * 1000 + 999))
            acknowledged.append(round * 1000 + 999)
    assert failed, "nothing failed"
    print(*acknowledged)

asyncio.run(main())
"""


def test_writes_that_the_system_refuses_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Real failures of real writes: the system lets no file of that process grow beyond a limit."""
    assert resource.RLIMIT_FSIZE
    file = tmp_path / "store.db"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    check = sqlite3.connect(file)
    assert check.execute("pragma integrity_check").fetchone() == ("ok",)
    runs = {run for (run,) in check.execute("select run from minuet_run")}
    facts = {run for (run,) in check.execute("select run from minuet_fact")}
    check.close()
    acknowledged = {int(run) for run in done.stdout.split()}
    assert acknowledged <= runs
    assert facts == {run for run in runs if run % 1000 != 999}
