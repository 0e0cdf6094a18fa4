"""`Control` over a store that no process holds: what reads is answered from the file, what changes is refused.

It needs no code of the user: plans are in the store, and a run is understood from its plan and its facts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from minuet.engine.port import RunFilter, StoredRun
from minuet.engine.program import Program
from minuet.engine.row import ENDED, PlanRow
from minuet.errors import NotFound, NotRunning, PlanInvalid
from minuet.ids import parse_run, run_text
from minuet.plans.plan import load_plan
from minuet.runtime import describe
from minuet.runtime.clock import SystemClock
from minuet.runtime.view import Acknowledged, EventReceipt, FailedView, Health, PlanView, RunView
from minuet.stores.sqlite.store import SqliteReader


@asynccontextmanager
async def open_stopped(file: Path) -> AsyncIterator[StoppedControl]:
    """Open the file of a store for reading, while the block lasts.

    Raises:
        NotFound: there is no such file.
        StoreDamaged: it is no store of Minuet, or one of another release.
    """
    store = SqliteReader(file)
    await store.open()
    try:
        yield StoppedControl(store)
    finally:
        await store.close()


class StoppedControl:
    """The verbs that read; the others raise NotRunning."""

    def __init__(self, store: SqliteReader) -> None:
        self._store = store
        self._clock = SystemClock()
        self._rows: list[PlanRow] | None = None
        self._programs: dict[str, Program | None] = {}

    async def show(self, run: str, *, facts: bool = True) -> RunView:
        """Give a run with what it waits for, and its facts."""
        stored = await self._store.load_run(_number(run))
        if stored is None:
            raise NotFound(f"there is no run {run}", remedy="List them: minuet runs", run=run)
        return await self._described(stored, facts=facts)

    async def find(self, key: str, workflow: str | None = None) -> RunView:
        """Give the newest run of a key."""
        row = await self._store.find_run(workflow, key)
        if row is None:
            raise NotFound(f"there is no run with the key {key!r}", remedy="List them: minuet runs", key=key)
        return await self.show(run_text(row.run))

    async def runs(
        self,
        *,
        states: tuple[str, ...] = (),
        workflow: str | None = None,
        key: str | None = None,
        since_ms: int | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[RunView]:
        """List runs, newest first."""
        which = RunFilter(
            states=states,
            workflow=workflow,
            key=key,
            since_ms=since_ms,
            before=_number(before) if before is not None else None,
            limit=limit,
        )
        rows = await self._store.list_runs(which)
        unfinished = await self._store.load_runs([r.run for r in rows if r.state not in ENDED])
        stored = {s.run.run: s for s in unfinished}
        return [await self._described(stored.get(r.run) or StoredRun(run=r, facts=[]), facts=False) for r in rows]

    async def wait(self, run: str, timeout_s: float | None) -> RunView:
        """Give a run that has ended, or is parked: nothing moves the others."""
        view = await self.show(run, facts=False)
        if not describe.is_settled(view.state):
            _refuse()
        return view

    async def failed(self, limit: int = 100) -> list[FailedView]:
        """List what is parked."""
        return describe.failed(*await self._store.parked(limit))

    async def plans(self) -> list[PlanView]:
        """List all plans; the newest of a workflow counts as current, since nobody is there to say otherwise."""
        rows, counts = await self._plan_rows(), await self._store.open_digests()
        newest = {row.workflow: row.digest for row in rows}
        return [
            PlanView(
                workflow=row.workflow,
                digest=row.digest,
                style=program.plan.style if (program := await self._program(row.digest)) is not None else "",
                current=newest[row.workflow] == row.digest,
                open_runs=counts.get(row.digest, 0),
                created_at_ms=row.created_at_ms,
            )
            for row in rows
        ]

    async def plan(self, name: str) -> bytes:
        """Give a plan as JSON text, by workflow or by (the beginning of a) digest."""
        rows = await self._plan_rows()
        if of_workflow := [row for row in rows if row.workflow == name]:
            return of_workflow[-1].body.encode()
        digest = name.rpartition("@")[2]
        found = [row for row in rows if digest and row.digest.startswith(digest)]
        if len(found) != 1:
            what = "no plan" if not found else f"{len(found)} plans"
            raise NotFound(f"there is {what} named {name!r}", remedy="List them: minuet plan list", plan=name)
        return found[0].body.encode()

    async def start(
        self,
        workflow: str,
        input_: bytes | None,
        *,
        key: str | None = None,
        on_duplicate: str = "same",
        again: bool = False,
        wait_for_room: bool = True,
    ) -> tuple[RunView, bool]:
        """Refuse."""
        _refuse()

    async def send(
        self, event: str, key: str, data: bytes, *, id_: str | None = None, source: str = ""
    ) -> EventReceipt:
        """Refuse."""
        _refuse()

    async def cancel(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def terminate(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def pause(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def resume(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def retry(
        self, run: str, position: str | None = None, *, who: str = "", note: str | None = None
    ) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def resolve(
        self,
        run: str,
        position: str,
        *,
        result: bytes | None = None,
        reject: str | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def skip(self, run: str, position: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def health(self) -> Health:
        """Refuse: there is no process that could be well or not."""
        _refuse()

    async def _described(self, stored: StoredRun, *, facts: bool) -> RunView:
        program = await self._program(stored.run.digest)
        return describe.stored(stored, program, None, self._clock.now_ms(), facts=facts)

    async def _plan_rows(self) -> list[PlanRow]:
        if self._rows is None:
            self._rows = sorted(await self._store.plans(), key=lambda row: row.created_at_ms)
        return self._rows

    async def _program(self, digest: str) -> Program | None:
        """Give the tables of a plan; None where it cannot be read, for a run is shown without it then."""
        if digest not in self._programs:
            body = next((row.body for row in await self._plan_rows() if row.digest == digest), None)
            try:
                self._programs[digest] = None if body is None else Program(load_plan(body))
            except PlanInvalid:
                self._programs[digest] = None
        return self._programs[digest]


def _number(run: str) -> int:
    number = parse_run(run)
    if number is None:
        raise NotFound(f"{run!r} is no run id", remedy="A run id has 13 characters; find a run by its key with --key")
    return number


def _refuse() -> NoReturn:
    raise NotRunning("no process has this store open, and this needs one")
