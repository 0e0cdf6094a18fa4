"""The verbs that read, over any store: the same whether a process holds it or not."""

from __future__ import annotations

from collections.abc import Mapping

from minuet.engine.knowledge import Knowledge
from minuet.engine.port import Clock, RunFilter, StoredRun, StoreReads
from minuet.engine.program import Program
from minuet.engine.row import ENDED
from minuet.errors import NotFound
from minuet.ids import parse_run, run_text
from minuet.runtime import describe
from minuet.runtime.letters import LetterReading
from minuet.runtime.view import FailedView, PlanView, RunView


class Reading:
    """What can be read; whoever derives from it says which plans there are, and what is in memory."""

    def __init__(self, store: StoreReads, clock: Clock) -> None:
        self._store = store
        self._clock = clock

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
    ) -> list[RunView]:
        """List runs, newest first."""
        which = RunFilter(
            states=states,
            workflow=workflow,
            key=key,
            since_ms=since_ms,
            before=number_of(before) if before is not None else None,
            limit=limit,
        )
        rows = await self._store.list_runs(which)
        unfinished = await self._store.load_runs([r.run for r in rows if r.state not in ENDED])
        stored = {s.run.run: s for s in unfinished}
        return [await self._described(stored.get(r.run) or StoredRun(run=r, facts=[]), facts=False) for r in rows]

    async def _described(self, stored: StoredRun, *, facts: bool) -> RunView:
        program = await self._program(stored.run.digest)
        return describe.stored(stored, program, self._live(stored.run.run), self._clock.now_ms(), facts=facts)

    async def failed(self, limit: int = 100) -> list[FailedView]:
        """List what is parked."""
        letters = await LetterReading(self._store).dead_letters(limit=limit)
        return describe.failed(*await self._store.parked(limit), letters)[:limit]

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
        digest = (await self._current()).get(name) or name.rpartition("@")[2]
        found = [row for row in await self._store.plans() if digest and row.digest.startswith(digest)]
        if len(found) != 1:
            what = "no plan" if not found else f"{len(found)} plans"
            raise NotFound(f"there is {what} named {name!r}", remedy="List them: minuet plan list", plan=name)
        return found[0].body.encode()


def number_of(run: str) -> int:
    """Read a run's public id. Raises NotFound."""
    number = parse_run(run)
    if number is None:
        raise NotFound(f"{run!r} is no run id", remedy="A run id has 13 characters; find a run by its key with --key")
    return number
