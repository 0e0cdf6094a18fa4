"""A workflow is read: from the source of an `async def` to its syntax tree, or to all that is wrong with it.

The statements are read here, in order, with the scope of each point of the text; what is awaited is read in
`awaited`, pure expressions in `pure`. Nothing of the user's function is executed.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Final

from minuet.contracts.action import Rejection, ServiceSpec
from minuet.contracts.message import event_spec
from minuet.errors import WorkflowRefused
from minuet.finding import Finding
from minuet.workflows import words
from minuet.workflows.expression import variables
from minuet.workflows.reader import foreign
from minuet.workflows.reader.argument import bound_arguments, read_duration, read_owner, read_text
from minuet.workflows.reader.awaited import read_awaited
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.pure.call import is_promise
from minuet.workflows.reader.pure.name import undefined
from minuet.workflows.reader.pure.syntax import read_condition, read_pure
from minuet.workflows.reader.pure.truth import known_attempts
from minuet.workflows.reader.pure.typed import Typed, element_of_tuple
from minuet.workflows.reader.pure.valuetype import (
    INT,
    NULL,
    UNKNOWN,
    AttemptType,
    Opaque,
    RejectedType,
    TupleType,
    Unknown,
    ValueType,
    describe,
    type_of,
    unwrapped,
)
from minuet.workflows.reader.scope import Scope, merge
from minuet.workflows.reader.signature import Signature, read_signature, service_specs, shape_of
from minuet.workflows.reader.source import MISSING, Source, file_label, source_of
from minuet.workflows.refusal import EXPLANATIONS, Refusals, shown
from minuet.workflows.tree import (
    Attempt,
    Break,
    Choice,
    Continue,
    Deadline,
    Let,
    Loop,
    Node,
    Place,
    Reject,
    Return,
    Section,
    Seq,
    WorkflowTree,
)

_READINGS_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reading a workflow gives: its tree and signature, the types of its events, notes that forbid nothing."""

    tree: WorkflowTree
    signature: Signature
    events: dict[str, type]
    notes: tuple[Finding, ...] = ()


def read(function: FunctionType, name: str | None = None) -> WorkflowTree:
    """Read a workflow into its syntax tree.

    Raises:
        WorkflowRefused: it says something that a plan cannot say; holds everything that was found.
    """
    return read_workflow(function, name).tree


def read_workflow(function: FunctionType, name: str | None = None) -> Reading:
    """Read a workflow, its signature and the notes on it; as `read` otherwise."""
    source = _source(function)
    refusals = Refusals()
    signature = read_signature(source, refusals)
    body = Body(source=source, services=service_specs(signature), refusals=refusals)
    seq = _Reader(body, signature).read("")
    _note_allowances(source, refusals)
    if errors := refusals.errors():
        raise WorkflowRefused(errors)
    tree = WorkflowTree(
        name=name or source.node.name,
        file=source.file,
        input=next(((input_, shape_of(t)) for input_, t in signature.inputs.items()), None),
        result_shape=shape_of(signature.result),
        services={parameter: spec.name for parameter, spec in body.services.items()},
        body=seq,
        events={name: spec.version for name, cls in body.events.items() if (spec := event_spec(cls)) is not None},
    )
    return Reading(tree=tree, signature=signature, events=body.events, notes=tuple(refusals.findings))


def _source(function: FunctionType) -> Source:
    if not isinstance(function, FunctionType):
        raise WorkflowRefused([_finding("M002", "", 1, f"{function!r} is no function", "decorate an async def")])
    source = source_of(function)
    if source is None:
        message = f"the source of {function.__name__} is not available"
        line = function.__code__.co_firstlineno
        raise WorkflowRefused([_finding("M001", file_label(function), line, message, "put it into a file")])
    return source


def _finding(code: str, file: str, line: int, message: str, remedy: str) -> Finding:
    return Finding(code=code, file=file, line=line, column=1, message=message, remedy=remedy)


def _inline(caller: Body, workflow: Any, services: dict[str, ServiceSpec], prefix: str) -> tuple[Node, ValueType]:
    """Read the body of a workflow where another one calls it, with the services that it is given there."""
    signature: Signature = workflow.signature
    body = Body(source=_source(workflow.function), services=services, refusals=caller.refusals, events=caller.events)
    return _Reader(body, signature).read(prefix), type_of(signature.result)


def _note_allowances(source: Source, refusals: Refusals) -> None:
    """Note each comment that allows a refusal of this table: none of them can be allowed."""
    for allowance in source.allowances():
        if allowance.code not in EXPLANATIONS:
            continue  # one of the checks; they know whether it is needed
        is_there = any(f.code == allowance.code and f.line == allowance.line for f in refusals.findings)
        refusals.add(
            "M019",
            source.file,
            allowance.line,
            allowance.column,
            f"{allowance.code} cannot be allowed: a plan has no way to say it"
            if is_there
            else f"nothing here is {allowance.code}",
            "remove the comment",
            is_note=True,
        )


@dataclass(slots=True)
class _Numbers:
    """The positions of one block, in the order of the text."""

    prefix: str
    count: int = 0

    def next(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"


@dataclass(slots=True)
class _Rounds:
    """A loop that is being read: the scopes with which it is left and taken up again.

    `attempts` is the number of attempts around it. A refused loop has no node, so nothing is collected for it.
    """

    attempts: int
    breaks: list[Scope] = field(default_factory=list)
    continues: list[Scope] = field(default_factory=list)


class _Reader:
    """Reads the statements of one body. `left` tells that the point that it has come to is not reached."""

    def __init__(self, body: Body, signature: Signature) -> None:
        self.body = body
        self.left = False
        self.rounds: list[_Rounds] = []
        self.assigned: list[set[str]] = []  # outside of each attempt around, what was assigned before it
        self.parallel: list[str] = []  # blocks around whose branches run beside each other; all of them are refused
        for name, annotation in signature.inputs.items():
            body.scope.bind(name, UNKNOWN if annotation is MISSING else type_of(annotation))

    def read(self, prefix: str) -> Seq:
        """Read the whole body; its positions begin with the prefix."""
        return self.block(self.body.source.node.body, _Numbers(prefix), self.body.source.node)

    # --- blocks and scopes -------------------------------------------------------------------------------------------

    def block(self, statements: list[ast.stmt], numbers: _Numbers, around: ast.AST) -> Seq:
        """Read statements, as far as they are reached."""
        parts: list[Node] = []
        self.left = False
        for statement in statements:
            parts.extend(self.statement(statement, numbers))
            if self.left:
                break
        return Seq(place=self.body.place(statements[0] if statements else around), parts=tuple(parts))

    def arm(
        self, statements: list[ast.stmt], numbers: _Numbers, scope: Scope, around: ast.AST
    ) -> tuple[Seq, Scope | None]:
        """Read an arm in a scope of its own, and give the scope of its end, if that is reached."""
        self.body.scope = scope
        seq = self.block(statements, numbers, around)
        return seq, None if self.left else self.body.scope

    def meet(self, arms: list[tuple[Scope | None, str]], otherwise: Scope) -> None:
        """Go on where arms meet; where all have left, what follows is not reached."""
        merged = merge(arms)
        self.left = merged is None
        self.body.scope = merged or otherwise

    def statement(self, node: ast.stmt, numbers: _Numbers) -> Iterator[Node]:
        """Read one statement."""
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return
            case ast.Expr(value=ast.Await(value=awaited)):
                yield self.awaited(awaited, numbers, self.body.hidden())[0]
            case ast.Expr(value=value):
                yield from self.bare(value, numbers)
            case ast.Assign(targets=targets, value=value):
                yield from self.assigned_to(targets, value, numbers)
            case ast.AnnAssign(target=target, value=value):
                if value is not None:
                    yield from self.assigned_to([target], value, numbers, node.annotation)
            case ast.Return(value=value):
                yield from self.returned(node, value, numbers)
            case ast.If():
                yield self.choice(node, numbers)
            case ast.For():
                yield from self.loop(node, numbers)
            case ast.AsyncWith():
                yield from self.blocks(node, list(node.items), numbers)
            case ast.Raise():
                yield from self.raised(node, numbers)
            case ast.Break() | ast.Continue():
                yield self.jump(node)
            case _:
                self.refused(node, numbers)

    def awaited(
        self, node: ast.expr, numbers: _Numbers, out: str, results: list[str | None] | None = None
    ) -> tuple[Node, ValueType]:
        return read_awaited(self.body, node, numbers.next(), out, _inline, results or ())

    # --- values ------------------------------------------------------------------------------------------------------

    def bare(self, node: ast.expr, numbers: _Numbers) -> Iterator[Node]:
        """Read an expression that stands alone: `assert_never(x)`, or a mistake."""
        if isinstance(node, ast.Call) and self.body.source.resolve(node.func) is typing.assert_never:
            yield Reject(
                place=self.body.place(node),
                position=numbers.next(),
                code="invalid-value",
                message="a value that no arm expects",
            )
            self.left = True
            return
        before = len(self.body.refusals.findings)
        read_pure(self.body, node)
        if len(self.body.refusals.findings) == before:
            self.body.refuse(
                "M004", node, f"the value of {shown(node)} goes nowhere", "give it a name, or leave it out"
            )

    def assigned_to(
        self, targets: list[ast.expr], value: ast.expr, numbers: _Numbers, annotation: ast.expr | None = None
    ) -> Iterator[Node]:
        """Read an assignment, of something pure or of what is awaited."""
        first, *others = targets
        if isinstance(value, ast.Await):
            yield from self.bound_to(first, value.value, numbers, annotation)
        elif isinstance(first, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            yield from self.pairwise(first, value)
        else:
            typed = read_pure(self.body, value)
            if isinstance(typed.type, AttemptType | RejectedType):
                self.body.refuse(
                    "M004", value, f"{shown(value)} is given another name", "ask tried.rejected where it is needed"
                )
            yield from self.unpacked(first, self.declared(typed, annotation))
        for other in others:
            yield from self.unpacked(other, read_pure(self.body, first))

    def bound_to(
        self, target: ast.expr, awaited: ast.expr, numbers: _Numbers, annotation: ast.expr | None
    ) -> Iterator[Node]:
        """Bind the value of what is awaited."""
        if isinstance(target, ast.Name) and target.id != "_":
            node, kind = self.awaited(awaited, numbers, target.id)
            yield node
            self.bind(target, self.declared(Typed(("var", target.id), kind), annotation).type)
            return
        out = self.body.hidden()
        names = _plain_names(target)
        node, kind = self.awaited(awaited, numbers, out, names)
        yield node
        results = getattr(node, "results", ())
        if names and isinstance(kind, TupleType) and len(results) == len(names):
            assert isinstance(target, ast.Tuple | ast.List)
            for element, name, item in zip(target.elts, names, kind.items, strict=True):
                if name is not None:
                    self.bind(element, item)
            return
        yield from self.unpacked(target, Typed(("var", out), kind))

    def declared(self, typed: Typed, annotation: ast.expr | None) -> Typed:
        """Give an annotated value the type that its annotation says."""
        if annotation is None or isinstance(typed.type, Unknown):
            return typed
        text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
        declared = self.body.source.annotation(text)
        if declared is MISSING:
            self.body.refuse(
                "M003", annotation, f"the type {shown(annotation)} is not known where the workflow is read",
                "define or import it above the workflow",
            )  # fmt: skip
            return typed
        kind = type_of(declared)
        if kind == Opaque("Any"):
            self.body.refuse("M003", annotation, "the annotation Any says nothing", "leave it out, or name a type")
            return typed
        return Typed(typed.expression, kind, is_raw=True)

    def pairwise(self, target: ast.Tuple | ast.List, value: ast.Tuple | ast.List) -> Iterator[Node]:
        """Read `a, b = b, a`: all values first, then all names."""
        if len(target.elts) != len(value.elts) or any(isinstance(e, ast.Starred) for e in (*target.elts, *value.elts)):
            self.body.refuse("M004", target, "the two sides differ in length", "write one value for each name")
            return
        values = [read_pure(self.body, element) for element in value.elts]
        names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
        for number, typed in enumerate(values):
            if names & variables(typed.expression):
                hidden = self.body.hidden()
                yield Let(place=self.body.place(value.elts[number]), name=hidden, value=typed.expression)
                values[number] = Typed(("var", hidden), typed.type)
        for element, typed in zip(target.elts, values, strict=True):
            yield from self.unpacked(element, typed)

    def unpacked(self, target: ast.expr, typed: Typed) -> Iterator[Node]:
        """Bind a value to a name, or its elements to several."""
        match target:
            case ast.Name(id=name):
                if self.bind(target, typed.type):
                    yield Let(place=self.body.place(target), name=name, value=typed.expression)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                yield from self.elements(target, elements, typed)
            case ast.Attribute() | ast.Subscript():
                self.body.refuse("M010", target, f"{shown(target)} is changed, and values are facts", "build a new one")
            case _:
                self.body.refuse("M004", target, f"{shown(target)} takes what is left over", "name each element")

    def elements(self, target: ast.expr, elements: list[ast.expr], typed: Typed) -> Iterator[Node]:
        kind = unwrapped(typed.type)
        if isinstance(kind, TupleType) and len(kind.items) == len(elements):
            if typed.expression[0] != "var":
                hidden = self.body.hidden()
                yield Let(place=self.body.place(target), name=hidden, value=typed.expression)
                typed = Typed(("var", hidden), typed.type)
            for number, element in enumerate(elements):
                yield from self.unpacked(element, element_of_tuple(typed, number))
            return
        if not isinstance(kind, Unknown):
            has = f"has {len(kind.items)} elements" if isinstance(kind, TupleType) else "has no known length"
            remedy = "write one name for each" if isinstance(kind, TupleType) else "take its elements by index: xs[0]"
            self.body.refuse("M004", target, f"{describe(kind)} {has}, not {len(elements)}", remedy)
        for name in ast.walk(target):
            if isinstance(name, ast.Name):
                self.bind(name, UNKNOWN)

    def bind(self, target: ast.expr, kind: ValueType) -> bool:
        """Bind a name in the scope; False where it may not be bound."""
        if not isinstance(target, ast.Name):
            return False
        if target.id in self.body.services:
            self.body.refuse("M012", target, f'the service "{target.id}" is given another value', "take another name")
            return False
        self.body.scope.bind(target.id, kind)
        return True

    # --- leaving -----------------------------------------------------------------------------------------------------

    def returned(self, node: ast.Return, value: ast.expr | None, numbers: _Numbers) -> Iterator[Node]:
        self.refuse_exit(node, "return")
        self.left = True
        place = self.body.place(node)
        if isinstance(value, ast.Await):
            out = self.body.hidden()
            yield self.awaited(value.value, numbers, out)[0]
            yield Return(place=place, value=("var", out))
            return
        typed = Typed(("lit", None), NULL) if value is None else read_pure(self.body, value)
        if value is not None and isinstance(typed.type, AttemptType | RejectedType):
            self.body.refuse("M004", value, f"{shown(value)} stays inside the workflow", "return its code")
        yield Return(place=place, value=typed.expression)

    def raised(self, node: ast.Raise, numbers: _Numbers) -> Iterator[Node]:
        """Read `raise SoldOut("…")`."""
        self.left = True
        raised = node.exc
        call = raised if isinstance(raised, ast.Call) else None
        cls = self.body.source.resolve(call.func if call else raised) if raised is not None else MISSING
        if not (isinstance(cls, type) and issubclass(cls, Rejection)) or cls is Rejection:
            name = (call.func if call else raised) if raised is not None else None
            if isinstance(name, ast.Name) and cls is MISSING and name.id not in self.body.source.local_names:
                undefined(self.body, name, name.id)
            else:
                what = "raise without a rejection" if raised is None else f"{shown(raised)} is no declared rejection"
                self.body.refuse("M004", raised or node, what, "raise a subclass of Rejection, or return a value")
            cls = None
        if node.cause is not None:
            self.body.refuse("M004", node.cause, "a rejection has no cause", "leave `from …` out")
        message = ""
        for number, argument in enumerate(call.args if call else ()):
            match argument:
                case ast.Constant(value=str(text)) if number == 0:
                    message = text
                case _:
                    self.body.refuse(
                        "M004", argument, "the message of a rejection is part of the plan", "write it as text"
                    )
        for keyword in call.keywords if call else ():
            self.body.refuse(
                "M004",
                keyword,
                "a rejection of a workflow has no details",
                "reject in an action, which may give details",
            )
        yield Reject(
            place=self.body.place(node),
            position=numbers.next(),
            code=cls.code if cls else "invalid-value",
            message=message,
        )

    def jump(self, node: ast.Break | ast.Continue) -> Node:
        """Read `break` or `continue`; the scope goes on behind the loop, or at its next round."""
        is_break = isinstance(node, ast.Break)
        self.refuse_exit(node, "break" if is_break else "continue")
        self.left = True
        rounds = self.rounds[-1]
        scope = self.body.scope.copy()
        for assigned in self.assigned[rounds.attempts :]:
            scope.assigned |= assigned
        (rounds.breaks if is_break else rounds.continues).append(scope)
        place = self.body.place(node)
        return Break(place=place) if is_break else Continue(place=place)

    def refuse_exit(self, node: ast.stmt, word: str) -> None:
        if self.parallel:
            self.body.refuse(
                "M015", node, f"{word} leaves while the other branches of {self.parallel[-1]} still run",
                "let the branch give a value, and decide after the join",
            )  # fmt: skip

    # --- choices -----------------------------------------------------------------------------------------------------

    def choice(self, node: ast.If, numbers: _Numbers) -> Node:
        position = numbers.next()
        test, decider = node.test, None
        if isinstance(test, ast.Call) and self.body.source.resolve(test.func) is words.at:
            test, decider = self.decision(test)
        condition = read_condition(self.body, test)
        when_true, when_false = known_attempts(self.body, test)
        before, line = self.body.scope, node.lineno
        then, after_then = self.arm(node.body, _Numbers(f"{position}.then."), before.knowing(when_true), node)
        otherwise, after_otherwise = self.arm(
            node.orelse, _Numbers(f"{position}.else."), before.knowing(when_false), node
        )
        self.meet(
            [
                (after_then, f"when line {line} takes its first arm"),
                (after_otherwise, f"when line {line} takes the other arm"),
            ],
            before,
        )
        return Choice(
            place=self.body.place(node),
            position=position,
            condition=condition,
            then=then,
            otherwise=otherwise,
            at=decider,
        )

    def decision(self, node: ast.Call) -> tuple[ast.expr, str | None]:
        """Read `at(orders, condition)`: the condition, and the service that decides."""
        if len(node.args) != 2 or node.keywords:
            self.body.refuse(
                "M004", node, "at(…) takes a service and a condition", "write at(orders, receipt.risk > 80)"
            )
            return ast.copy_location(ast.Constant(value=False), node), None
        match node.args[0]:
            case ast.Name(id=name) if name in self.body.services:
                return node.args[1], self.body.services[name].name
            case other:
                self.body.refuse(
                    "M012", other, f"{shown(other)} is no service of this workflow", "name the service that decides"
                )
        return node.args[1], None

    # --- loops -------------------------------------------------------------------------------------------------------

    def loop(self, node: ast.For, numbers: _Numbers) -> Iterator[Node]:
        limit = self.bound(node)
        if limit is None:
            self.straight_on([node.target], [*node.body, *node.orelse], numbers, is_loop=True)
            return
        position = numbers.next()
        target = typing.cast("ast.Name", node.target)
        index = target.id if target.id != "_" and _is_read(target.id, self.body.source.node) else None
        if index is not None:
            self.bind(target, INT)
        before = self.body.scope.copy()
        body, rounds, ends = self.round(node, position, before)
        exhausted = merge(ends)
        self.body.scope = exhausted or before.copy()
        otherwise = self.block(node.orelse, _Numbers(f"{position}.else."), node)
        when = f"when the loop of line {node.lineno}"
        is_exhausted = exhausted is not None and not self.left
        arms: list[tuple[Scope | None, str]] = [(self.body.scope if is_exhausted else None, f"{when} runs to its end")]
        arms += [(scope, f"{when} is left by break") for scope in rounds.breaks]
        self.meet(arms, before)
        if index is not None:
            self.body.scope.forget(index, "after its loop")
        yield Loop(
            place=self.body.place(node), position=position, index=index, limit=limit, body=body, otherwise=otherwise
        )

    def round(self, node: ast.For, position: str, before: Scope) -> tuple[Seq, _Rounds, list[tuple[Scope | None, str]]]:
        """Read the body of a loop for all its rounds, and give it with the scopes of its ends.

        A later round begins with what an earlier one has bound, maybe with other types than the first one: then the
        body is read again, until what it begins with stays the same.
        """
        entry, readings = before, 0
        while True:
            readings += 1
            mark = self.body.mark()
            rounds = _Rounds(attempts=len(self.assigned))
            self.rounds.append(rounds)
            body, end = self.arm(node.body, _Numbers(f"{position}."), entry.copy(), node)
            self.rounds.pop()
            ends = [(scope, f"when line {node.lineno} begins a round") for scope in (end, *rounds.continues)]
            again = merge([(entry, f"in the first round of line {node.lineno}"), *ends])
            if again is None or again.agrees(entry, before.names) or readings > _READINGS_MAX:
                return body, rounds, ends
            self.body.back_to(mark)
            if readings == _READINGS_MAX:
                again.widen(entry, before.names)
            entry = again

    def bound(self, node: ast.For) -> int | None:
        """Give the bound of `for i in range(n)`; None after a finding."""
        match node.iter:
            case ast.Call(func=function, args=arguments, keywords=[]) if self.body.source.resolve(function) is range:
                if len(arguments) != 1:
                    self.body.refuse(
                        "M007", node.iter, f"{ast.unparse(node.iter)} counts from elsewhere", "use range(n)"
                    )
                    return None
                if not isinstance(node.target, ast.Name):
                    self.body.refuse("M004", node.target, f"{shown(node.target)} counts the rounds", "use one name")
                    return None
                typed = read_pure(self.body, arguments[0])
                match typed.expression:
                    case ("lit", int(limit)) if typed.type == INT and limit >= 1:
                        return limit
                if not isinstance(typed.type, Unknown):
                    what = f"{shown(arguments[0])} is no bound that is known now"
                    self.body.refuse("M007", arguments[0], what, "use a number from 1, or a constant of the module")
                return None
        over = shown(node.iter)
        if any(isinstance(child, ast.Await) for child in ast.walk(node)):
            self.body.refuse(
                "M008", node, f"a loop over {over} has steps in it", "use each(…, limit=), or range(n) with a bound"
            )
        else:
            self.body.refuse(
                "M008", node, f"a loop goes over {over}", "use a comprehension for values, and range(n) for rounds"
            )
        return None

    # --- blocks ------------------------------------------------------------------------------------------------------

    def blocks(self, node: ast.AsyncWith, items: list[ast.withitem], numbers: _Numbers) -> Iterator[Node]:
        """Read `async with`; several in one statement stand inside each other."""
        item, *inner = items
        call, name = item.context_expr, item.optional_vars
        meaning = self.body.source.resolve(call.func) if isinstance(call, ast.Call) else MISSING
        if not isinstance(call, ast.Call) or meaning not in (
            words.attempt, words.deadline, words.orchestration, words.choreography
        ):  # fmt: skip
            self.refused_block(call, meaning, name, node, numbers)
            return
        if name is not None and (meaning is not words.attempt or not isinstance(name, ast.Name)):
            self.body.refuse("M004", name, f"{shown(call)} gives nothing to keep", "leave `as …` out")
            name = None
        position = numbers.next()

        def body() -> Seq:
            own = _Numbers(f"{position}.")
            if not inner:
                return self.block(node.body, own, node)
            return Seq(place=self.body.place(node), parts=tuple(self.blocks(node, inner, own)))

        place = self.body.place(node)
        if meaning is words.attempt:
            yield self.attempt(call, name, position, place, body)
        elif meaning is words.deadline:
            yield self.deadline(call, position, place, body)
        else:
            yield self.section(call, meaning, position, place, body)

    def attempt(
        self, call: ast.Call, name: ast.expr | None, position: str, place: Place, body: Callable[[], Seq]
    ) -> Node:
        codes = self.codes(call)
        out = f"{name.id}.rejected" if isinstance(name, ast.Name) else self.body.hidden()
        before, site = self.body.scope, (place.line << 12) + place.column
        self.assigned.append(before.assigned)
        self.body.scope = before.enter_attempt()
        seq = body()
        self.assigned.pop()
        self.body.scope = before.leave_attempt(None if self.left else self.body.scope, site, place.line)
        self.left = False  # it may be rejected, and then goes on behind the attempt
        if name is not None:
            self.bind(name, AttemptType(site))
        return Attempt(place=place, position=position, body=seq, codes=codes, out=out)

    def codes(self, call: ast.Call) -> tuple[str, ...] | None:
        """Give the codes that an attempt names; None where it names none."""
        for keyword in call.keywords:
            self.body.refuse("M004", keyword, f"attempt(…) has no {keyword.arg}=", "name rejections only")
        codes = []
        for argument in call.args:
            cls = self.body.source.resolve(argument)
            if isinstance(cls, type) and issubclass(cls, Rejection) and cls is not Rejection:
                codes.append(cls.code)
            elif isinstance(argument, ast.Name) and cls is MISSING:
                undefined(self.body, argument, argument.id)
            else:
                remedy = "write attempt() for any of them" if cls is Rejection else "name subclasses of Rejection"
                self.body.refuse("M004", argument, f"{shown(argument)} is no declared rejection", remedy)
        return tuple(codes) if call.args else None

    def deadline(self, call: ast.Call, position: str, place: Place, body: Callable[[], Seq]) -> Node:
        given = bound_arguments(self.body, call, "deadline", ("duration", "by")) or {}
        if "duration" not in given:
            self.body.refuse("M004", call, "deadline(…) lacks its duration", "give seconds, or a timedelta")
        duration = read_duration(self.body, given["duration"]) if "duration" in given else ("lit", 1)
        by = read_owner(self.body, given.get("by"))
        return Deadline(place=place, position=position, duration=duration, body=body(), by=by)

    def section(self, call: ast.Call, meaning: Any, position: str, place: Place, body: Callable[[], Seq]) -> Node:
        style = "orchestration" if meaning is words.orchestration else "choreography"
        given = bound_arguments(self.body, call, style, ("by",) if style == "orchestration" else ()) or {}
        by = read_text(self.body, given.get("by"))
        return Section(place=place, position=position, style=style, body=body(), by=by)

    def refused_block(
        self, call: ast.expr, meaning: Any, name: ast.expr | None, node: ast.AsyncWith, numbers: _Numbers
    ) -> None:
        """Refuse `async with` on something else, and read on inside it."""
        is_parallel = meaning in (words.together, words.each) or (
            isinstance(call, ast.Call) and shown(call.func).endswith("TaskGroup")
        )
        if meaning in (words.together, words.each, words.wait_for, words.sleep):
            self.body.refuse("M004", call, f"{shown(call)} is no block", "await it")
        else:
            code, message, remedy = foreign.refusal_of(call, meaning)
            if code == "M004":
                message, remedy = f"{shown(call)} would be entered by nobody", "move it into an action"
            self.body.refuse(code, call, message, remedy)
        if is_parallel:
            self.parallel.append(shown(call))
        self.straight_on([name] if name is not None else [], node.body, numbers)
        if is_parallel:
            self.parallel.pop()

    # --- what is refused ---------------------------------------------------------------------------------------------

    def straight_on(
        self, targets: Iterable[ast.AST], statements: list[ast.stmt], numbers: _Numbers, *, is_loop: bool = False
    ) -> None:
        """Read on inside of what was refused, for what else there is to find; names count as bound."""
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    self.bind(name, UNKNOWN)
        if is_loop:
            self.rounds.append(_Rounds(attempts=len(self.assigned)))
        for statement in statements:
            list(self.statement(statement, numbers))
        self.left = False
        if is_loop:
            self.rounds.pop()

    def refused(self, node: ast.stmt, numbers: _Numbers) -> None:
        """Refuse a statement that a plan cannot say."""
        match node:
            case ast.Try() | ast.TryStar():
                self.body.refuse(
                    "M006",
                    node,
                    "Python would enter the except before anything is compensated",
                    "use async with attempt(…)",
                )
                handlers = [statement for handler in node.handlers for statement in handler.body]
                names = [ast.Name(handler.name) for handler in node.handlers if handler.name]
                self.straight_on(names, [*node.body, *node.orelse, *handlers, *node.finalbody], numbers)
            case ast.While():
                self.body.refuse("M007", node, "a loop needs a bound", "use for _ in range(n)")
                read_condition(self.body, node.test)
                self.straight_on([], [*node.body, *node.orelse], numbers, is_loop=True)
            case ast.AsyncFor():
                self.body.refuse(
                    "M008",
                    node,
                    f"async for goes over {shown(node.iter)}",
                    "use each(…, limit=), or range(n) with a bound",
                )
                is_parallel = is_promise(self.body, node.iter)
                if is_parallel:
                    self.parallel.append(shown(node.iter))
                self.straight_on([node.target], [*node.body, *node.orelse], numbers, is_loop=True)
                if is_parallel:
                    self.parallel.pop()
            case ast.With():
                first = node.items[0].context_expr
                self.body.refuse("M004", first, f"{shown(first)} would be entered by nobody", "move it into an action")
                kept = [item.optional_vars for item in node.items if item.optional_vars is not None]
                self.straight_on(kept, node.body, numbers)
            case ast.AugAssign(target=ast.Name(id=name), op=operator, value=value):
                sign = _SIGNS.get(type(operator), "+")
                self.body.refuse(
                    "M010", node, f"{name} is changed in place, and values are facts",
                    f"build a new one: {name} = {name} {sign} {shown(value)}",
                )  # fmt: skip
            case ast.AugAssign(target=target):
                self.body.refuse("M010", node, f"{shown(target)} is changed, and values are facts", "build a new one")
            case ast.Delete():
                self.body.refuse("M010", node, "del takes a name away, and values are facts", "leave it out")
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.body.refuse(
                    "M010", node, f"{', '.join(names)} is changed outside of the workflow", "return the value instead"
                )
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.body.refuse(
                    "M013",
                    node,
                    f"{name} is a function inside a workflow",
                    "name it as a workflow of its own and call it",
                )
                self.bind(ast.Name(name), UNKNOWN)
            case ast.ClassDef(name=name):
                self.body.refuse(
                    "M013", node, f"{name} is a class inside a workflow", "define it at the top of the module"
                )
                self.bind(ast.Name(name), UNKNOWN)
            case ast.Match():
                self.body.refuse("M004", node, f"match {shown(node.subject)} is not read", "write it as if/elif/else")
                names = [ast.Name(n) for case in node.cases for n in _captured(case.pattern)]
                self.straight_on(names, [statement for case in node.cases for statement in case.body], numbers)
            case ast.Import() | ast.ImportFrom():
                self.body.refuse("M004", node, "an import inside a workflow", "import it at the top of the module")
                self.straight_on([ast.Name((a.asname or a.name).split(".")[0]) for a in node.names], [], numbers)
            case ast.Assert():
                self.body.refuse(
                    "M004", node, "assert is executed by nobody", "raise a declared rejection: if not …: raise …"
                )
            case _:
                self.body.refuse("M004", node, f"{shown(node)} is not part of a plan", "leave it out")


_SIGNS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip


def _plain_names(target: ast.expr) -> list[str | None]:
    """Give the names of `a, b = …`; None for a name that is not kept; nothing for any other target."""
    if not isinstance(target, ast.Tuple | ast.List):
        return []
    names = [element.id if isinstance(element, ast.Name) else "" for element in target.elts]
    if "" in names:
        return []
    return [None if name == "_" or name in names[i + 1 :] else name for i, name in enumerate(names)]


def _is_read(name: str, node: ast.AST) -> bool:
    return any(
        isinstance(child, ast.Name) and child.id == name and isinstance(child.ctx, ast.Load) for child in ast.walk(node)
    )


def _captured(pattern: ast.pattern) -> Iterator[str]:
    for child in ast.walk(pattern):
        match child:
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name
