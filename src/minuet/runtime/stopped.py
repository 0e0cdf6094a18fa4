"""`Control` over a store that no process holds: what reads is answered from the file, what changes is refused.

It needs no code of the user: plans are in the store, and a run is understood from its plan and its facts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from minuet.engine.program import Program
from minuet.engine.row import PlanRow
from minuet.errors import NotRunning, PlanInvalid
from minuet.plans.plan import load_plan
from minuet.runtime import describe
from minuet.runtime.clock import SystemClock
from minuet.runtime.letters import LetterChoice, LetterReading, Letters
from minuet.runtime.reading import Reading
from minuet.runtime.view import Acknowledged, EventReceipt, Health, RunView
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


class StoppedControl(Reading):
    """The verbs that read; the others raise NotRunning."""

    def __init__(self, store: SqliteReader) -> None:
        super().__init__(store, SystemClock())
        self.letters: Letters = StoppedLetters(store)
        self._rows: list[PlanRow] | None = None
        self._programs: dict[str, Program | None] = {}

    async def wait(self, run: str, timeout_s: float | None) -> RunView:
        """Give a run that has ended, or is parked: nothing moves the others."""
        view = await self.show(run, facts=False)
        if not describe.is_settled(view.state):
            _refuse()
        return view

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

    async def retire(self, plan: str, *, who: str = "", note: str | None = None) -> Acknowledged:
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

    async def _current(self) -> Mapping[str, str]:
        """Give the newest plan of each workflow: nobody is there to say otherwise."""
        return {row.workflow: row.digest for row in await self._plan_rows()}

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


class StoppedLetters(LetterReading):
    """The verbs over dead letters that read; the others raise NotRunning."""

    async def retry(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def edit(self, letter: str, data: bytes, *, who: str = "", note: str) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def skip(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def discard(self, choice: LetterChoice, *, who: str = "", note: str) -> Acknowledged:
        """Refuse."""
        _refuse()

    async def replay(
        self,
        subscription: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        """Refuse."""
        _refuse()


def _refuse() -> NoReturn:
    raise NotRunning("no process has this store open, and this needs one")
