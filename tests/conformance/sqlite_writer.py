"""A process that writes until it is killed, and says on its output what was acknowledged, in order.

Two kinds of things: a decision with a run, and a handler that writes into a table of its own and records a run with it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from minuet.engine.port import Outcome, RunFilter
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.store_desk import execute, fact_row, one_statement, run_change, start

IN_FLIGHT = 200


async def main(file: Path) -> None:
    newest = 0
    store = SqliteStore(file)
    told = sys.stdout.buffer

    def submit(run: int) -> None:
        if run % 10:
            decision = start(run)
            decision.facts = [fact_row(run, "1")]
            decision.changes = [run_change(run)] if run % 3 else []
            decision.token = run
            store.submit(decision)
        else:
            decision = start(run)
            decision.token = run
            store.submit_work(one_statement(execute("insert into effects (run) values (?)", run), decision))

    def on_outcomes(outcomes: Sequence[Outcome]) -> None:
        nonlocal newest
        for outcome in outcomes:
            assert outcome.error is None, outcome.error
            assert outcome.decision is not None
            told.write(f"{outcome.decision.token}\n".encode())
            newest += 1
            submit(newest)
        told.flush()

    await store.open(on_outcomes)
    await store.setup(one_statement(execute("create table if not exists effects (run integer not null)")))
    last = await store.list_runs(RunFilter(limit=1))
    newest = last[0].run if last else 0
    for _ in range(IN_FLIGHT):
        newest += 1
        submit(newest)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
