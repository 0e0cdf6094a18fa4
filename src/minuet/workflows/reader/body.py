"""What is known while one workflow's body is read: its source, its services, the names in scope, the findings."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minuet.contracts.action import Rejection, ServiceSpec
from minuet.workflows.reader.pure.typed import POISON, Typed
from minuet.workflows.reader.pure.valuetype import UNKNOWN, ValueType
from minuet.workflows.reader.scope import Scope
from minuet.workflows.reader.source import Source
from minuet.workflows.refusal import Refusals
from minuet.workflows.tree import Node, Place, Seq


@dataclass(slots=True)
class Body:
    """One body that is being read. `scope` is the point of the text that the reader has come to.

    `services` are the keyword-only parameters; `lambdas` are the names that lambdas and comprehensions bind, which
    hide others. `events` are the types of the events that it waits for, by name, `rejections` those that it raises, by
    code; `taken` are the names that variables of lambdas have. `audiences` and `schemas` are those of the tree.
    """

    source: Source
    services: dict[str, ServiceSpec]
    refusals: Refusals
    scope: Scope = field(default_factory=Scope)
    lambdas: dict[str, Typed] = field(default_factory=dict)
    events: dict[str, type] = field(default_factory=dict)
    rejections: dict[str, type[Rejection]] = field(default_factory=dict)
    audiences: dict[str, tuple[str, ...]] = field(default_factory=dict)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    hidden_count: int = 0
    taken: set[str] = field(default_factory=set)

    def refuse(self, code: str, node: ast.AST, message: str, remedy: str) -> Typed:
        """Put a finding on the list; what is given back stands for what could not be read."""
        self.source.refuse(self.refusals, code, node, message, remedy)
        return POISON

    def mark(self) -> tuple[int, int, set[str]]:
        """Remember this point of the reading."""
        return len(self.refusals.findings), self.hidden_count, set(self.taken)

    def back_to(self, mark: tuple[int, int, set[str]]) -> None:
        """Forget what was found and named since a mark, because that part is read again."""
        found, self.hidden_count, self.taken = mark
        del self.refusals.findings[found:]

    def place(self, node: ast.AST) -> Place:
        """Give the place of a syntax node."""
        return self.source.place(node)

    def bind(self, target: ast.expr, kind: ValueType) -> bool:
        """Bind a name in the scope; False where it may not be bound."""
        if not isinstance(target, ast.Name):
            return False
        if target.id in self.services:
            self.refuse("M012", target, f'the service "{target.id}" is given another value', "take another name")
            return False
        self.scope.bind(target.id, kind)
        return True

    def bind_all(self, target: ast.AST, kind: ValueType) -> None:
        """Bind every name in a target, each to a value of the same type."""
        for name in ast.walk(target):
            if isinstance(name, ast.Name):
                self.bind(name, kind)

    def hidden(self) -> str:
        """Give a new name for a value that the text does not name."""
        self.hidden_count += 1
        return f"${self.hidden_count}"

    def unique(self, name: str) -> str:
        """Give a name for the variable of a lambda that no other variable of this body has."""
        number, given = 1, name
        while given in self.taken or given in self.source.local_names:
            number += 1
            given = f"{name}${number}"
        self.taken.add(given)
        return given


def nothing(body: Body, node: ast.AST) -> tuple[Node, ValueType]:
    """Give what stands for something awaited that could not be read."""
    return Seq(place=body.place(node)), UNKNOWN


ReadPure = Callable[[Body, ast.expr], Typed]
"""How the parts of an expression are read; what reads a kind of expression is given it."""
