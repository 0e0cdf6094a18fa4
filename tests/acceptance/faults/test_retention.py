"""Ended runs are forgotten while their keys are used again: a new run, never an old result (F26)."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from minuet import App, KeyConflict, NotFound, Run, Service, action, workflow
from minuet.engine.row import RunRow
from minuet.stores.sqlite import retention
from tests.acceptance.process import ROOT

pytestmark = pytest.mark.asyncio

FOREVER_MS = 1 << 53
TABLES = ("run", "fact", "attempt", "timer", "wait", "inbox")


class Counter(Service):
    calls = 0

    @action
    async def count(self, what: str) -> int:
        self.calls += 1
        return self.calls


@workflow
async def count(what: str, *, counter: Counter) -> int:
    one = await counter.count(what)
    other = await counter.count(what)
    return one + other


async def test_a_key_that_is_used_again_while_its_run_is_forgotten_never_gives_an_old_result(tmp_path: Path) -> None:
    service = Counter()
    app = App("counter", services=[service], workflows=[count], store=f"sqlite:///{tmp_path / 'counter.db'}")
    async with app:
        store = app.control._participant.store
        is_over = False

        async def forget() -> int:
            forgotten = 0
            while not is_over:
                forgotten += await store.forget(FOREVER_MS, 5)
                await asyncio.sleep(0)
            return forgotten

        forgetting = asyncio.create_task(forget())
        seen: dict[str, int] = {}
        newest = 0
        for n in range(300):
            run = await app.start(count, "x", key=f"k-{n % 3}")
            assert run.is_new == (run.id not in seen)
            result = await _result(run)
            if result is not None and run.is_new:
                assert result > newest  # made of calls that nobody had made before
                newest = result
            elif result is not None:
                assert result == seen[run.id]  # still there, and still the same
            seen[run.id] = newest
        is_over = True
        assert await forgetting > 100
        assert len(seen) > 100


async def test_a_run_that_is_forgotten_between_two_looks_at_it_gives_its_key_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App("counter", services=[Counter()], workflows=[count], store=f"sqlite:///{tmp_path / 'counter.db'}")
    async with app:
        old = await app.start(count, "x", key="k")
        await old.result(60)
        store = app.control._participant.store
        find = store.find_run

        async def find_and_forget(workflow: str | None, key: str) -> RunRow | None:
            found = await find(workflow, key)
            await store.forget(FOREVER_MS, 10)
            return found

        monkeypatch.setattr(store, "find_run", find_and_forget)
        new = await app.start(count, "x", key="k")
        assert new.is_new
        assert await new.result(60) == 7


async def _result(run: Run[int]) -> int | None:
    """Give a run's result; None where it ended and was forgotten before it could be asked."""
    try:
        return await run.result(60)
    except NotFound:
        return None


async def test_another_input_for_a_key_is_a_conflict_until_its_run_is_forgotten(tmp_path: Path) -> None:
    app = App("counter", services=[Counter()], workflows=[count], store=f"sqlite:///{tmp_path / 'counter.db'}")
    async with app:
        old = await app.start(count, "x", key="k")
        assert await old.result(60) == 3
        with pytest.raises(KeyConflict):
            await app.start(count, "y", key="k")
        assert await app.control._participant.store.forget(FOREVER_MS, 10) == 1
        new = await app.start(count, "y", key="k")
        assert new.is_new
        assert new.id != old.id
        assert await new.result(60) == 7


FORGET = """
import asyncio, os, signal, sys
from pathlib import Path
from minuet.stores.sqlite.store import SqliteStore

class Deadly(dict):
    asked = 0
    def __getitem__(self, name):
        if name.startswith("forget_") or name == "commit":
            Deadly.asked += name.startswith("forget_")
            if Deadly.asked == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(name)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open(lambda outcomes: None)
    store._queries = Deadly(store._queries)
    print(await store.forget(1 << 53, 100), flush=True)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("step", [*range(1, len(retention._FORGOTTEN) + 1), 0])
async def test_a_process_that_dies_while_it_forgets_has_forgotten_all_or_nothing(step: int, tmp_path: Path) -> None:
    """`step` is the delete before which it is killed; 0: it is killed by nobody."""
    file = tmp_path / "counter.db"

    def program() -> App:
        return App("counter", services=[Counter()], workflows=[count], store=f"sqlite:///{file}")

    async with program() as app:
        old = [await app.start(count, "x", key=f"k-{n}") for n in range(5)]
        for run in old:
            await run.result(60)
    before = _rows(file)
    died = subprocess.run(
        [sys.executable, "-c", FORGET, str(file), str(step)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert died.returncode == (-signal.SIGKILL if step else 0), died.stderr.decode()
    assert _rows(file) == (before if step else dict.fromkeys(TABLES, 0))
    async with program() as app:
        for n, run in enumerate(old):
            again = await app.start(count, "x", key=f"k-{n}")
            assert (again.id == run.id, again.is_new) == ((True, False) if step else (False, True))
            await again.result(60)


def _rows(file: Path) -> dict[str, int]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return {t: connection.execute(f"select count(*) from minuet_{t}").fetchone()[0] for t in TABLES}
    finally:
        connection.close()
