"""A handler that takes part in the transaction in which its fact is recorded.

The handler runs in the event loop until its first statement. Then it is handed to the store, which drives it from
statement to statement, in a savepoint of the group that it is committed with: in the thread that owns the
connection, so that a statement costs no change of thread. From there until it returns it may wait for nothing but its
transaction; anything else would stop every other commit.
"""

from __future__ import annotations

import contextvars
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any, cast

from minuet.contracts.handler import Row
from minuet.engine.answer import Answer, Done, Failed
from minuet.engine.basis import Basis
from minuet.engine.port import Statement
from minuet.engine.row import Decision
from minuet.errors import ForeignAwait


class StatementTransaction:
    """The `Transaction` that a handler is given: each call gives one statement to whoever drives the handler."""

    async def execute(self, sql: str, *args: Any) -> int:
        """Run one statement, and give the number of rows that it changed."""
        return cast("int", await _ask(Statement("execute", sql, args)))

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement for each of many rows of arguments, and give the number of rows changed."""
        return cast("int", await _ask(Statement("executemany", sql, tuple(tuple(r) for r in rows))))

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run one query, and give all its rows."""
        return cast("list[Row]", await _ask(Statement("fetch", sql, args)))

    async def fetch_one(self, sql: str, *args: Any) -> Row | None:
        """Run one query, and give its first row, if there is one."""
        return cast("Row | None", await _ask(Statement("fetch_one", sql, args)))


@types.coroutine
def _ask(statement: Statement) -> Generator[Statement, Any, Any]:
    return (yield statement)


@types.coroutine
def _forward(awaited: Any) -> Generator[Any, Any, Any]:
    """Pass something that a driven coroutine waits for on to the task that drives it."""
    return (yield awaited)


async def until_first_statement(coroutine: Coroutine[Any, Any, Any]) -> tuple[Statement | None, Any]:
    """Drive a handler in this task until it gives its first statement, or returns without one.

    Gives (statement, None) or (None, result); raises what the handler raises.
    """
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            asked = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as end:
            return None, end.value
        if isinstance(asked, Statement):
            return asked, None
        value, error = None, None
        try:
            value = await _forward(asked)
        except BaseException as e:
            error = e


class TransactionalCall:
    """A handler from its first statement to its end: the `Work` that the store performs."""

    __slots__ = ("_answer", "_classify", "_context", "_coroutine", "_decide", "_is_awaited", "basis", "first", "token")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        first: Statement,
        *,
        classify: Callable[[Any, BaseException | None], Answer],
        is_awaited: Callable[[], bool],
        decide: Callable[[Answer], Decision | None],
        token: Any,
        basis: Basis | None = None,
    ) -> None:
        self.first = first
        self.token = token
        self.basis = basis
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._classify = classify
        self._is_awaited = is_awaited
        self._decide = decide
        self._answer: Answer | None = None

    def next(self, answer: Any) -> Statement | None:
        """Take the answer of the last statement; give the next one, or None at the end."""
        return self._go(lambda: self._coroutine.send(answer))

    def fail(self, error: Exception) -> Statement | None:
        """Take the error of the last statement; give the next one, or None at the end."""
        return self._go(lambda: self._coroutine.throw(error))

    def _go(self, step: Callable[[], Any]) -> Statement | None:
        try:
            asked = self._context.run(step)
        except StopIteration as end:
            self._answer = self._classify(end.value, None)
            return None
        except BaseException as e:
            # Whatever asks for the event loop finds none here; that is the same mistake as to wait for something else.
            is_foreign = isinstance(e, RuntimeError) and str(e) == "no running event loop"
            self._answer = self._classify(None, _foreign() if is_foreign else e)
            return None
        if isinstance(asked, Statement):
            return asked
        self._coroutine.close()
        self._answer = self._classify(None, _foreign())
        return None

    def keeps_writes(self) -> bool:
        """Say whether the handler's writes stand: only if it is done, and somebody still waits for that."""
        return isinstance(self._answer, Done) and self._is_awaited()

    def finish(self, *, undo: bool) -> Decision | None:
        """Give the decision that goes with the writes, or, where they were undone, with the failure."""
        if self._answer is None:
            self._coroutine.close()
            self._answer = Failed("a statement failed, and the transaction was rolled back")
        elif undo and isinstance(self._answer, Done):
            self._answer = Failed("the writes could not be kept")
        return self._decide(self._answer)


def _foreign() -> ForeignAwait:
    return ForeignAwait("a transactional action awaited something else after its first statement")


class SetupCall:
    """A service's own `setup`, performed in a transaction of its own when the store is opened."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: Statement) -> None:
        self.first = first
        self.basis: Basis | None = None
        self.error: BaseException | None = None
        self._coroutine = coroutine

    def next(self, answer: Any) -> Statement | None:
        """Take the answer of the last statement; give the next one, or None at the end."""
        return self._go(lambda: self._coroutine.send(answer))

    def fail(self, error: Exception) -> Statement | None:
        """Take the error of the last statement; give the next one, or None at the end."""
        return self._go(lambda: self._coroutine.throw(error))

    def _go(self, step: Callable[[], Any]) -> Statement | None:
        try:
            asked = step()
        except StopIteration:
            return None
        except BaseException as e:
            self.error = e
            return None
        if isinstance(asked, Statement):
            return asked
        self._coroutine.close()
        self.error = ForeignAwait("setup awaited something else than its transaction")
        return None

    def keeps_writes(self) -> bool:
        """Say whether the writes stand."""
        return self.error is None

    def finish(self, *, undo: bool) -> Decision | None:
        """Record nothing besides."""
        return None
