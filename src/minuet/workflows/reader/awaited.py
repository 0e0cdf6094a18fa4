"""What is awaited: steps with their methods, `together`, `each`, waits, timers, and calls of other workflows."""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Sequence
from typing import Any

from minuet.contracts.action import ServiceSpec
from minuet.contracts.message import event_spec
from minuet.workflows import words
from minuet.workflows.expression import Expression
from minuet.workflows.reader.argument import bound_arguments, known_count, read_duration, read_owner
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.position import branch_of
from minuet.workflows.reader.pure import operation
from minuet.workflows.reader.pure.call import is_promise, is_workflow, refused_call
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.typed import Typed, python_value
from minuet.workflows.reader.pure.valuetype import (
    DATETIME,
    NULL,
    STR,
    UNKNOWN,
    ListType,
    OptionalType,
    TupleType,
    Unknown,
    ValueType,
    describe,
    type_of,
    unwrapped,
)
from minuet.workflows.reader.source import MISSING, Definition
from minuet.workflows.reader.step import read_step
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Call, Each, Node, Par, Seq, Sleep, Wait

Inline = Callable[[Body, Any, dict[str, ServiceSpec], str], tuple[Node, ValueType]]
"""Reads the body of another workflow: (caller, workflow, its services, prefix of its positions)."""


def read_awaited(
    body: Body, node: ast.expr, position: str, out: str, inline: Inline, results: Sequence[str | None] = ()
) -> tuple[Node, ValueType]:
    """Read what is awaited as one node, which binds `out`, and give the type of its value.

    `results` are the names that the values of a `together` are unpacked to at once, where there are any.
    """
    reader = _Awaited(body, inline)
    return reader.read(node, position, out, results)


class _Awaited:
    """Reads what is awaited in one body."""

    def __init__(self, body: Body, inline: Inline) -> None:
        self.body = body
        self.inline = inline

    def read(
        self, node: ast.expr, position: str, out: str, results: Sequence[str | None] = ()
    ) -> tuple[Node, ValueType]:
        if isinstance(node, ast.Call):
            if self._is_recursion(node):
                return self._nothing(node)
            if is_promise(self.body, node):
                meaning = self.body.source.resolve(node.func)
                if meaning is words.together:
                    return self._together(node, position, out, results)
                if meaning is words.each:
                    return self._each(node, position, out)
                if meaning is words.wait_for:
                    return self._wait(node, position, out)
                if meaning is words.sleep:
                    return self._sleep(node, position, out)
                if is_workflow(meaning):
                    return self._workflow(node, meaning, position, out)
                return read_step(self.body, node, position, out)
            refused_call(self.body, node, read_pure)
        elif isinstance(node, ast.Await):
            self.body.refuse("M009", node, f"{shown(node.value)} is awaited twice", "leave one await out")
        elif isinstance(node, ast.Lambda | ast.GeneratorExp):
            read_pure(self.body, node)
        elif not isinstance(read_pure(self.body, node).type, Unknown):
            self.body.refuse(
                "M009", node, f"{shown(node)} is awaited, but is no step",
                "await the call of an action, together(…), each(…), wait_for(…) or sleep(…)",
            )  # fmt: skip
        return self._nothing(node)

    def _nothing(self, node: ast.AST) -> tuple[Node, ValueType]:
        return Seq(place=self.body.place(node)), UNKNOWN

    # --- together, each ----------------------------------------------------------------------------------------------

    def _together(
        self, node: ast.Call, position: str, out: str, results: Sequence[str | None]
    ) -> tuple[Node, ValueType]:
        for keyword in node.keywords:
            self.body.refuse("M004", keyword, f"together(…) has no {keyword.arg}=", "give it steps only")
        starred = next((a for a in node.args if isinstance(a, ast.Starred)), None)
        if starred is not None or not node.args:
            self.body.refuse(
                "M008", starred or node, "how many branches there are is known only at run time"
                if starred
                else "together(…) has no branches", "use each(xs, lambda x: …, limit=)" if starred else "give it steps",
            )  # fmt: skip
            return self._nothing(node)
        names = list(results) if len(results) == len(node.args) else [None] * len(node.args)
        outs = [name or self.body.hidden() for name in names]
        branches: list[Node] = []
        kinds: list[ValueType] = []
        for number, (branch, name) in enumerate(zip(node.args, outs, strict=True)):
            read, kind = self._branch(branch, branch_of(position, number), name)
            branches.append(read)
            kinds.append(kind)
        par = Par(
            place=self.body.place(node), position=position, branches=tuple(branches), results=tuple(outs), out=out
        )
        return par, TupleType(tuple(kinds))

    def _branch(self, node: ast.expr, position: str, out: str) -> tuple[Node, ValueType]:
        if isinstance(node, ast.Await):
            self.body.refuse(
                "M009", node, f"{shown(node.value)} is awaited before its branch begins", "leave the inner await out"
            )
            return self._nothing(node)
        return self.read(node, position, out)

    def _each(self, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
        given = bound_arguments(self.body, node, "each", ("items", "body", "limit", "at_once", "by"))
        if given is None:
            return self._nothing(node)
        missing = next((name for name in ("items", "body") if name not in given), None)
        if missing is not None:
            self.body.refuse("M004", node, "each(…) takes a list and a lambda", "each(xs, lambda x: …, limit=n)")
            return self._nothing(node)
        limit = self._count(given.get("limit"), "limit")
        if "limit" not in given:
            self.body.refuse("M008", node, "each(…) has no limit", "give limit=: the most elements that there may be")
        at_once = self._count(given.get("at_once"), "at_once")
        over = read_pure(self.body, given["items"])
        item = operation.element_of(over.type)
        if item is None:
            self.body.refuse(
                "M004", given["items"], f"each(…) goes through {describe(over.type)}",
                "go through a list; sorted(…) makes one of a set",
            )  # fmt: skip
            item = UNKNOWN
        name = self._lambda(given["body"])
        if name is None:
            return self._nothing(node)
        function = typing.cast("ast.Lambda", given["body"])
        variable, outer = self.body.unique(name), self.body.lambdas
        self.body.lambdas = {**outer, name: Typed(("var", variable), item)}
        result = self.body.hidden()
        read, kind = self._branch(function.body, f"{position}.1", result)
        self.body.lambdas = outer
        each = Each(
            place=self.body.place(node),
            position=position,
            over=over.expression,
            item=variable,
            body=read,
            result=result,
            out=out,
            limit=limit or 1,
            at_once=at_once,
            by=read_owner(self.body, given.get("by")),
        )
        return each, ListType(kind)

    def _lambda(self, node: ast.expr) -> str | None:
        """Give the name that the lambda of an `each` binds."""
        match node:
            case ast.Lambda(
                args=ast.arguments(
                    posonlyargs=[], args=[ast.arg(arg=name)], vararg=None, kwonlyargs=[], kwarg=None, defaults=[]
                )
            ):
                return name
            case ast.Lambda():
                self.body.refuse("M013", node, "the lambda of each(…) takes one element", "write lambda x: …")
            case _:
                self.body.refuse(
                    "M013", node, f"each(…) takes a lambda, not {shown(node)}", "write lambda x: service.action(x)"
                )
        return None

    def _count(self, node: ast.expr | None, what: str) -> int | None:
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return None
        typed = read_pure(self.body, node)
        number = known_count(typed)
        if number is None and not isinstance(typed.type, Unknown):
            self.body.refuse(
                "M008",
                node,
                f"{what}={shown(node)} is no number that is known now",
                "use a number, or a constant of the module",
            )
        return number

    # --- waits, timers -----------------------------------------------------------------------------------------------

    def _wait(self, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
        given = bound_arguments(self.body, node, "wait_for", ("event", "key", "by", "timeout"))
        if given is None:
            return self._nothing(node)
        if "event" not in given or "key" not in given:
            self.body.refuse(
                "M004", node, f"wait_for(…) lacks {'its event' if 'event' not in given else 'key='}",
                "write wait_for(PickedUp, key=…)",
            )  # fmt: skip
            return self._nothing(node)
        cls = self.body.source.resolve(given["event"])
        spec = event_spec(cls)
        if spec is None:
            self.body.refuse(
                "M004", given["event"], f"{shown(given['event'])} is no event that one could wait for",
                "declare it: @event(…) above the class",
            )  # fmt: skip
            return self._nothing(node)
        if self.body.events.setdefault(spec.name, cls) is not cls:
            self.body.refuse(
                "M004", given["event"], f"{spec.name} is awaited as two types", "wait for one of them, in one version"
            )
        key = read_pure(self.body, given["key"])
        if operation.plain(key.type) not in (STR, UNKNOWN):
            self.body.refuse(
                "M004",
                given["key"],
                f"the key is of type {describe(key.type)}",
                "a key is text: use str(…) or an f-string",
            )
        timeout = given.get("timeout")
        if isinstance(timeout, ast.Constant) and timeout.value is None:
            timeout = None
        wait = Wait(
            place=self.body.place(node),
            position=position,
            event=spec.name,
            version=spec.version,
            key=key.expression,
            out=out,
            by=read_owner(self.body, given.get("by")),
            timeout=None if timeout is None else read_duration(self.body, timeout),
        )
        return wait, type_of(cls) if timeout is None else OptionalType(type_of(cls))

    def _sleep(self, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
        given = bound_arguments(self.body, node, "sleep", ("duration", "until", "by"))
        if given is None:
            return self._nothing(node)
        if ("duration" in given) == ("until" in given):
            self.body.refuse(
                "M004", node, "sleep(…) takes a duration or until=, one of them", "write sleep(timedelta(…))"
            )
            return self._nothing(node)
        until: Expression | None = None
        if "until" in given:
            typed = read_pure(self.body, given["until"])
            until = python_value(typed)
            if unwrapped(typed.type) not in (DATETIME, UNKNOWN):
                self.body.refuse("M004", given["until"], f"until= is of type {describe(typed.type)}", "give a datetime")
        sleep = Sleep(
            place=self.body.place(node),
            position=position,
            duration=read_duration(self.body, given["duration"]) if "duration" in given else None,
            until=until,
            by=read_owner(self.body, given.get("by")),
            out=out,
        )
        return sleep, NULL

    # --- other workflows ---------------------------------------------------------------------------------------------

    def _workflow(self, node: ast.Call, workflow: Any, position: str, out: str) -> tuple[Node, ValueType]:
        inputs: dict[str, Any] = workflow.signature.inputs
        services: dict[str, Any] = workflow.signature.services
        given = bound_arguments(self.body, node, workflow.name, [*inputs, *services])
        if given is None:
            return self._nothing(node)
        for name in (*inputs, *services):
            if name not in given:
                self.body.refuse("M004", node, f'{workflow.name}(…) lacks "{name}"', f"give {name}=")
                return self._nothing(node)
        passed: dict[str, ServiceSpec] = {}
        for name in services:
            match given[name]:
                case ast.Name(id=own) if own in self.body.services:
                    passed[name] = self.body.services[own]
                case other:
                    self.body.refuse(
                        "M012",
                        other,
                        f"{name}={shown(other)} is no service of this workflow",
                        "pass one of its services",
                    )
                    return self._nothing(node)
        arguments = tuple((name, read_pure(self.body, given[name]).expression) for name in inputs)
        read, kind = self.inline(self.body, workflow, passed, f"{position}.")
        call = Call(
            place=self.body.place(node),
            position=position,
            workflow=workflow.name,
            arguments=arguments,
            body=read,
            out=out,
        )
        return call, kind

    def _is_recursion(self, node: ast.Call) -> bool:
        """Refuse a call of the workflow that is being read, or of one that is defined later."""
        if (
            not isinstance(node.func, ast.Name)
            or node.func.id in self.body.source.local_names - self.body.source.closure.keys()
        ):
            return False
        source, name = self.body.source, node.func.id
        own = source.node.name
        remedy = "child(…), a run of its own, is not yet part of Minuet; make the repetition a loop: for _ in range(n)"
        if name == own:
            self.body.refuse("M017", node, f"{own} calls itself", remedy)
            return True
        if source.meaning(name) is not MISSING:
            return False
        below = source.definition_below(name)
        if below is None:
            return False
        if _reaches(source.definition_below, below, own, set()):
            self.body.refuse("M017", node, f"{own} and {name} call each other", remedy)
        else:
            self.body.refuse(
                "M017", node, f'"{name}" is defined below {own}, which is read before', f"move {name} up, above {own}"
            )
        return True


def _reaches(find: Callable[[str], Definition | None], node: Definition, goal: str, seen: set[str]) -> bool:
    """Tell whether a function of the file calls another one, by way of others or directly."""
    seen.add(node.name)
    for child in ast.walk(node):
        match child:
            case ast.Call(func=ast.Name(id=name)):
                if name == goal:
                    return True
                if name not in seen and (inner := find(name)) is not None and _reaches(find, inner, goal, seen):
                    return True
    return False
