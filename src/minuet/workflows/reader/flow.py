"""The flow of control through one body: blocks and arms, and what stands around the point that is being read.

The statements of a body are read in the order of the text, once; only the body of a loop may be read again. The point
that has been come to is a scope (`Body.scope`), or nowhere: after `return` and its like `Flow.left` is True, until
the next place where arms meet.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from minuet.workflows.reader.awaited import read_awaited
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.called import Inline
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.valuetype import UNKNOWN, ValueType
from minuet.workflows.reader.scope import Scope, merge
from minuet.workflows.tree import Node, Seq


@dataclass(slots=True)
class Rounds:
    """A loop that is being read: the scopes with which it is left and taken up again.

    `attempts` is the number of attempts around it. A refused loop has no node, so nothing is collected for it.
    """

    attempts: int
    breaks: list[Scope] = field(default_factory=list)
    continues: list[Scope] = field(default_factory=list)


class Flow:
    """One body whose statements are being read. `left` tells that the point that was come to is not reached.

    Of what stands around this point, outermost first: `rounds` are the loops; `assigned` has for each attempt the
    names that were assigned before it; `parallel` are blocks whose branches run beside each other, as text: all of
    them are refused.
    """

    def __init__(self, body: Body, inline: Inline, read: ReadStatement) -> None:
        self.body = body
        self.left = False
        self.rounds: list[Rounds] = []
        self.assigned: list[set[str]] = []
        self.parallel: list[str] = []
        self._inline = inline
        self._read = read

    def block(self, statements: Sequence[ast.stmt], numbers: Numbers, around: ast.AST) -> Seq:
        """Read statements, as far as they are reached."""
        parts: list[Node] = []
        self.left = False
        for statement in statements:
            parts.extend(self._read(self, statement, numbers))
            if self.left:
                break
        return Seq(place=self.body.place(statements[0] if statements else around), parts=tuple(parts))

    def arm(
        self, statements: Sequence[ast.stmt], numbers: Numbers, scope: Scope, around: ast.AST
    ) -> tuple[Seq, Scope | None]:
        """Read an arm in a scope of its own, and give the scope of its end, if that is reached."""
        self.body.scope = scope
        seq = self.block(statements, numbers, around)
        return seq, None if self.left else self.body.scope

    def meet(self, arms: Iterable[tuple[Scope | None, str]], otherwise: Scope) -> None:
        """Go on where arms meet; where all have left, what follows is not reached."""
        merged = merge(arms)
        self.left = merged is None
        self.body.scope = merged or otherwise

    def awaited(
        self, node: ast.expr, numbers: Numbers, out: str, results: Sequence[str | None] = ()
    ) -> tuple[Node, ValueType]:
        """Read what is awaited at the next position, as `read_awaited` does."""
        return read_awaited(self.body, node, numbers.next(), out, self._inline, results)

    @contextmanager
    def loop(self) -> Iterator[Rounds]:
        """Read a loop inside this context: what leaves its rounds is collected."""
        rounds = Rounds(attempts=len(self.assigned))
        self.rounds.append(rounds)
        yield rounds
        self.rounds.pop()

    @contextmanager
    def beside(self, what: str) -> Iterator[None]:
        """Read a refused block inside this context, whose branches would run beside each other."""
        self.parallel.append(what)
        yield
        self.parallel.pop()

    def read_on(self, targets: Iterable[ast.AST], statements: Iterable[ast.stmt], numbers: Numbers) -> None:
        """Read on inside of what was refused, for what else there is to find; its names count as bound."""
        for target in targets:
            self.body.bind_all(target, UNKNOWN)
        for statement in statements:
            list(self._read(self, statement, numbers))
        self.left = False


ReadStatement = Callable[[Flow, ast.stmt, Numbers], Iterable[Node]]
"""How one statement is read; `statement` gives it, and each kind of statement reads those inside of it by the flow."""
