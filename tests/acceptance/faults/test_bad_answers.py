"""Actions that answer what they may not, or raise what one does not raise: a stored reason each, nothing half done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from minuet import App, Rejection, RunRejected, Service, Transaction, action, compensation, injected, workflow
from minuet.contracts.action import RetryPolicy
from minuet.runtime.settings import Settings

pytestmark = pytest.mark.asyncio


class Known(Rejection): ...


class Undeclared(Rejection): ...


class Bottomless(BaseException):
    """Derives from what nobody catches by accident."""


class Late(Exception):
    """Says when to come back, and says nonsense."""

    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


def recurse(n: int) -> int:
    return recurse(n + 1) + 1


def fail(error: BaseException) -> Callable[[], NoReturn]:
    def raise_it() -> NoReturn:
        raise error

    return raise_it


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


ITSELF: list[Any] = []
ITSELF.append(ITSELF)

# What the action does, and what the reason must say of it.
ANSWERS: dict[str, tuple[Callable[[], Any], str]] = {
    "returns text": (lambda: "seven", "returned what it does not declare"),
    "returns nothing": (lambda: None, "returned what it does not declare"),
    "returns a float": (lambda: 1.5, "returned what it does not declare"),
    "returns an object": (object, "returned what it does not declare"),
    "returns a bool": (lambda: True, "returned what it does not declare"),
    "returns itself": (lambda: ITSELF, "returned what it does not declare"),
    "returns much": (lambda: nested(100_000), "returned what it does not declare"),
    "rejects undeclared": (fail(Undeclared("no")), "does not declare"),
    "rejects with no json": (fail(Known("no", what=object())), "details"),
    "StopIteration": (fail(StopIteration(7)), "StopIteration"),
    "StopAsyncIteration": (fail(StopAsyncIteration(7)), "StopAsyncIteration"),
    "GeneratorExit": (fail(GeneratorExit()), "GeneratorExit"),
    "CancelledError": (fail(asyncio.CancelledError("not asked for")), "CancelledError"),
    "SystemExit": (lambda: sys.exit(3), "SystemExit"),
    "KeyboardInterrupt": (fail(KeyboardInterrupt()), "KeyboardInterrupt"),
    "RecursionError": (lambda: recurse(0), "RecursionError"),
    "MemoryError": (fail(MemoryError()), "MemoryError"),
    "BaseException": (fail(Bottomless("deep")), "Bottomless"),
    "rejects with no text": (fail(Undeclared(7)), "does not declare"),  # type: ignore[arg-type]
    "an error that comes back at no time": (fail(Late("soon")), "Late"),
    "an error of many": (fail(ExceptionGroup("several", [ValueError("a"), KeyError("b")])), "several"),
    "an error that cannot be told": (fail(type("Mute", (Exception,), {"__str__": lambda self: 1 / 0})()), "Mute"),
    "an error that says a surrogate": (fail(ValueError("\ud800")), "ValueError"),
    "an error that says very much": (fail(ValueError("x" * 10_000_000)), "ValueError: xxx"),
}


class Desk(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (what text)")

    @action
    async def enter(self, what: str, *, tx: Transaction = injected()) -> str:
        await tx.execute("insert into entry values (?)", what)
        return what

    @compensation(enter)
    async def strike(self, what: str, *, tx: Transaction = injected()) -> None:
        await tx.execute("delete from entry where what = ?", what)

    @action(rejects=(Known,))
    async def plain(self, what: str) -> int:
        return ANSWERS[what][0]()  # type: ignore[no-any-return]

    @action(rejects=(Known,))
    def thread(self, what: str) -> int:
        return ANSWERS[what][0]()  # type: ignore[no-any-return]

    @action(rejects=(Known,))
    async def early(self, what: str, *, tx: Transaction = injected()) -> int:
        """Answer before the first statement."""
        return ANSWERS[what][0]()  # type: ignore[no-any-return]

    @action(rejects=(Known,))
    async def late(self, what: str, *, tx: Transaction = injected()) -> int:
        """Answer after a statement, which must not stand."""
        await tx.execute("insert into entry values ('half done')")
        return ANSWERS[what][0]()  # type: ignore[no-any-return]

    @action
    async def entries(self, _: str, *, tx: Transaction = injected()) -> int:
        row = await tx.fetch_one("select count(*) from entry")
        assert row is not None
        return int(row[0])


@workflow
async def plain(what: str, *, desk: Desk) -> int:
    await desk.enter(what)
    return await desk.plain(what)


@workflow
async def thread(what: str, *, desk: Desk) -> int:
    await desk.enter(what)
    return await desk.thread(what)


@workflow
async def early(what: str, *, desk: Desk) -> int:
    await desk.enter(what)
    return await desk.early(what)


@workflow
async def late(what: str, *, desk: Desk) -> int:
    await desk.enter(what)
    return await desk.late(what)


@workflow
async def count(what: str, *, desk: Desk) -> int:
    return await desk.entries(what)


FLOWS = [plain, thread, early, late]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
async def test_whatever_an_action_answers_has_a_reason_and_leaves_nothing_half_done(flow: Any, tmp_path: Path) -> None:
    app = App("desk", services=[Desk()], workflows=[*FLOWS, count])
    settings = Settings(
        store_url=f"sqlite:///{tmp_path / 'desk.db'}",
        retry=RetryPolicy(attempts=2, first_ms=1, factor=1, at_most_ms=1),
    )
    await app.open(settings)
    try:
        runs = {what: await app.start(flow, what, key=what) for what in ANSWERS}
        for what, (_, reason) in ANSWERS.items():
            view = await app.control.wait(runs[what].id, 20)
            assert view.state == "stuck", what
            assert view.reason is not None
            assert reason in view.reason, what
            assert len(view.reason) < 20_000, what
        failed = await app.control.failed()
        assert {f.key for f in failed} == set(ANSWERS)
        assert all(f.position == "2" for f in failed)
        assert await app.run(count, "") == len(ANSWERS)  # what was entered before; nothing is half done
        assert (await app.control.health()).running_actions == 0
    finally:
        await app.stop()


async def test_an_error_that_never_wants_to_be_tried_again_waits_a_year_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ANSWERS, "never", (fail(Late(float("inf"))), ""))
    async with App("desk", services=[Desk()], workflows=FLOWS, store="sqlite://") as app:
        run = await app.start(plain, "never")
        async with asyncio.timeout(60):
            while not (waiting := await run.waiting()) or "attempt 2" not in waiting[0].detail:
                await asyncio.sleep(0.01)
        assert (await run.cancel()).outcome in ("asked", "pivot-in-flight")
        assert (await app.control.wait(run.id, 10)).state == "compensated"


async def test_a_declared_rejection_is_an_answer_beside_all_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "rejects", (fail(Known("as it may", what=[1])), ""))
    async with App("desk", services=[Desk()], workflows=FLOWS, store="sqlite://") as app:
        for flow in FLOWS:
            with pytest.raises(RunRejected, match="known") as no:
                await app.run(flow, "rejects")
            assert isinstance(no.value.rejection, Known)
            assert no.value.rejection.details == {"what": [1]}
