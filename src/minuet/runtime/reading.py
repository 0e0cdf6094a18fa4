"""The verbs that read, over any store: the same whether a process holds it or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from minuet.engine.knowledge import Knowledge
from minuet.engine.port import Clock, RunFilter, StoredRun, StoreReads
from minuet.engine.program import Program
from minuet.engine.row import ENDED, PlanRow, RunRow, RunState
from minuet.errors import NotFound
from minuet.ids import parse_run, run_text
from minuet.observe.usual import Usuals
from minuet.runtime import describe
from minuet.runtime.letters import LetterReading
from minuet.runtime.observer_usual import expecting, learn_recent
from minuet.runtime.view import FailedView, PlanView, RunView

UNFINISHED = tuple(state for state in RunState if state not in ENDED)
LEARNED_MS = 60_000  # how long what was learnt is taken for true, where nobody goes on learning
LATE_PAGE = 100  # runs that are looked at together, to find those that are late


class Reading:
    """What can be read; whoever derives from it says which plans there are, and what is in memory."""

    def __init__(self, store: StoreReads, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._learned: dict[str, tuple[int, Usuals]] = {}  # by workflow, and when

    async def _program(self, digest: str) -> Program | None:
        """Give the tables of a plan; None where there is none, or it cannot be read."""
        raise NotImplementedError

    async def _current(self) -> Mapping[str, str]:
        """Give the digest of the plan that new runs of a workflow take, by workflow."""
        raise NotImplementedError

    def _live(self, _run: int) -> Knowledge | None:
        """Give what is in memory of a run."""
        return None

    async def show(self, run: str, *, facts: bool = True) -> RunView:
        """Give a run with what it waits for, and its facts."""
        return await self._described(await self._stored(run), facts=facts)

    async def _stored(self, run: str) -> StoredRun:
        stored = await self._store.load_run(number_of(run))
        if stored is None:
            raise NotFound(f"there is no run {run}", remedy="List them: minuet runs", run=run)
        return stored

    async def find(self, key: str, workflow: str | None = None) -> RunView:
        """Give the newest run of a key; a run that was started without one has its id as its key."""
        row = await self._store.find_run(workflow, key)
        if row is None and (number := parse_run(key)) is not None:
            stored = await self._store.load_run(number)
            row = stored.run if stored is not None else None
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
        late: bool = False,
    ) -> list[RunView]:
        """List runs, newest first."""
        which = RunFilter(
            states=states or (UNFINISHED if late else ()),
            workflow=workflow,
            key=key,
            since_ms=since_ms,
            before=number_of(before) if before is not None else None,
            limit=LATE_PAGE if late else limit,
        )
        if not late:
            listed = await self._listed(await self._run_rows(which))
            return [view for view in listed if not states or view.state in states]
        found: list[RunView] = []
        async for rows in self._maybe_late(which):
            found += [view for view in await self._listed(rows) if any(w.late for w in view.waiting)]
            if len(found) >= limit:
                break
        return found[:limit]

    async def _maybe_late(self, which: RunFilter) -> AsyncIterator[list[RunRow]]:
        """Give the runs among which those are that are late, newest first, in pages."""
        while rows := await self._store.list_runs(which):
            yield rows
            which = replace(which, before=rows[-1].run)

    async def _run_rows(self, which: RunFilter) -> list[RunRow]:
        return await self._store.list_runs(which)

    async def _listed(self, rows: Sequence[RunRow]) -> list[RunView]:
        unfinished = await self._store.load_runs([r.run for r in rows if r.state not in ENDED])
        stored = {s.run.run: s for s in unfinished}
        return [await self._described(stored.get(r.run) or StoredRun(run=r, facts=[]), facts=False) for r in rows]

    async def _described(self, stored: StoredRun, *, facts: bool) -> RunView:
        program = await self._program(stored.run.digest)
        now = self._clock.now_ms()
        return await self._expecting(describe.stored(stored, program, self._live(stored.run.run), now, facts=facts))

    async def _expecting(self, view: RunView) -> RunView:
        """Say of what a run waits for how long it usually takes."""
        if not view.waiting:
            return view
        return expecting(view, await self._usuals(view.workflow), self._clock.now_ms())

    async def _usuals(self, workflow: str) -> Usuals:
        """Give how long things of a workflow usually take: here, as its newest runs say."""
        now = self._clock.now_ms()
        at_ms, usuals = self._learned.get(workflow, (0, Usuals()))
        if now - at_ms > LEARNED_MS:
            usuals = Usuals()
            await learn_recent(usuals, self._store, workflow, self._program)
            self._learned[workflow] = now, usuals
        return usuals

    async def failed(self, limit: int = 100) -> list[FailedView]:
        """List what is parked."""
        letters = await LetterReading(self._store).dead_letters(limit=limit)
        kept = [(row.message, row) for row in await self._store.early(None, limit)]
        return [*describe.failed(*await self._store.parked(limit), letters), *describe.kept(kept)][:limit]

    async def plans(self) -> list[PlanView]:
        """List all plans."""
        counts, current = await self._store.open_digests(), await self._current()
        return [
            PlanView(
                workflow=row.workflow,
                digest=row.digest,
                style=program.plan.style if (program := await self._program(row.digest)) is not None else "",
                current=current.get(row.workflow) == row.digest,
                open_runs=counts.get(row.digest, 0),
                created_at_ms=row.created_at_ms,
            )
            for row in await self._store.plans()
        ]

    async def plan(self, name: str) -> bytes:
        """Give a plan as JSON text, by workflow (then the current one) or by (the beginning of a) digest."""
        return (await self._plan_row(name)).body.encode()

    async def _plan_row(self, name: str) -> PlanRow:
        digest = (await self._current()).get(name) or name.rpartition("@")[2]
        found = [row for row in await self._store.plans() if digest and row.digest.startswith(digest)]
        if len(found) != 1:
            what = "no plan" if not found else f"{len(found)} plans"
            raise NotFound(f"there is {what} named {name!r}", remedy="List them: minuet plan list", plan=name)
        return found[0]


def number_of(run: str) -> int:
    """Read a run's public id. Raises NotFound."""
    number = parse_run(run)
    if number is None:
        raise NotFound(f"{run!r} is no run id", remedy="A run id has 13 characters; find a run by its key with --key")
    return number
