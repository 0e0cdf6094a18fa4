"""What is awaited: steps with their methods, `together`, `each`, waits, timers, and calls of other workflows."""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Sequence
from typing import Any, Final

from minuet.contracts.action import ActionSpec, RetryPolicy, ServiceSpec
from minuet.contracts.duration import milliseconds, retry_policy
from minuet.contracts.message import event_spec
from minuet.contracts.schema import shape_digest
from minuet.errors import DeclarationError
from minuet.workflows import operation, words
from minuet.workflows.body import Body
from minuet.workflows.call import is_promise, is_workflow, refused_call
from minuet.workflows.expression import Expression, evaluate, is_partial
from minuet.workflows.pure import read_pure
from minuet.workflows.refusal import attribute_name, did_you_mean, shown
from minuet.workflows.source import MISSING, Definition
from minuet.workflows.tree import Call, Each, Node, Par, Seq, Sleep, Step, Wait
from minuet.workflows.typed import Typed, python_value
from minuet.workflows.valuetype import (
    DATETIME,
    DURATION,
    FLOAT,
    INT,
    NULL,
    STR,
    UNKNOWN,
    ListType,
    Opaque,
    OptionalType,
    TupleType,
    Unknown,
    ValueType,
    describe,
    type_of,
    unwrapped,
)

Inline = Callable[[Body, Any, dict[str, ServiceSpec], str], tuple[Node, ValueType]]
"""Reads the body of another workflow: (caller, workflow, its services, prefix of its positions)."""

_METHODS: Final = ("compensate", "keep", "retry", "timeout")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def read_awaited(
    body: Body, node: ast.expr, position: str, out: str, inline: Inline, results: Sequence[str | None] = ()
) -> tuple[Node, ValueType]:
    """Read what is awaited as one node, which binds `out`, and give the type of its value.

    `results` are the names that the values of a `together` are unpacked to at once, where there are any.
    """
    reader = _Awaited(body, inline)
    return reader.read(node, position, out, results)


def read_duration(body: Body, node: ast.expr) -> Expression:
    """Read a length of time: milliseconds as a whole number, or an expression that gives a duration."""
    typed = read_pure(body, node)
    t = unwrapped(typed.type)
    if typed.expression[0] == "lit" and t in (INT, FLOAT, DURATION):
        value = evaluate(python_value(typed), _no_variable)
        try:
            return ("lit", milliseconds(value, shown(node)))
        except DeclarationError as error:
            body.refuse("M004", node, *_said(error))
    elif t == DURATION:
        return python_value(typed)
    elif t in (INT, FLOAT):
        return ("call", "round", ("mul", python_value(typed), ("lit", 1000)))
    elif not isinstance(t, Unknown):
        body.refuse("M004", node, f"{shown(node)} is no length of time", "give seconds, or a timedelta")
    return ("lit", 1)


def read_owner(body: Body, node: ast.expr | None) -> str | None:
    """Read `by=`: a service of this workflow."""
    match node:
        case None | ast.Constant(value=None):
            return None
        case ast.Name(id=name) if name in body.services:
            return body.services[name].name
    body.refuse("M012", node, f"by={shown(node)} is no service of this workflow", "name one of its services")
    return None


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
                return self._step(node, position, out)
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

    # --- steps -------------------------------------------------------------------------------------------------------

    def _step(self, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
        methods: list[ast.Call] = []
        call = node
        while isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call):
            methods.insert(0, call)
            call = call.func.value
        assert isinstance(call.func, ast.Attribute)
        assert isinstance(call.func.value, ast.Name)
        service = self.body.services[call.func.value.id]
        action = service.actions.get(call.func.attr)
        if action is None:
            self.body.refuse(
                "M004",
                attribute_name(call.func),
                f"{service.name} has no action {call.func.attr}",
                did_you_mean(
                    call.func.attr, service.actions, f"its actions are {', '.join(service.actions) or 'none'}"
                ),
            )
            for method in methods:
                self._method(method, None)
            return self._nothing(node)
        arguments = self._arguments(call, action)
        said: dict[str, Any] = {}
        for method in methods:
            name = typing.cast("ast.Attribute", method.func).attr
            value = self._method(method, action)
            if name in said:
                self._refuse_method(method, f".{name}(…) is said twice", "leave one out")
            said[name] = value
        compensation, is_kept = self._compensation(node, service, action, said)
        timeout_ms, timeout_then = said.get("timeout") or (action.timeout_ms, "ask")
        if timeout_then == "abandon" and compensation is None and timeout_ms is not None:
            self.body.refuse(
                "M018", node, f"{action.name} is abandoned after its timeout, and has no compensation",
                'give it one with .compensate(…), or leave then="abandon" out',
            )  # fmt: skip
        step = Step(
            place=self.body.place(node),
            position=position,
            service=service.name,
            action=action.name,
            arguments=arguments,
            out=out,
            rejects=tuple(rejection.code for rejection in action.rejects),
            compensation=compensation,
            keep=is_kept,
            pure=action.pure,
            partial=any(is_partial(value) for _, value in arguments) or any(map(_is_constrained, action.parameters)),
            retry=said.get("retry") or action.retry,
            timeout_ms=timeout_ms,
            timeout_then=timeout_then,
            attempt_timeout_ms=action.attempt_timeout_ms,
            input_shape=shape_digest(action.input),
            result_shape=shape_digest(action.result),
        )
        return step, type_of(action.result)

    def _arguments(self, call: ast.Call, action: ActionSpec) -> tuple[tuple[str, Expression], ...]:
        """Bind the arguments to the parameters of the action, in the order of its signature."""
        given = self._bound(call, action.name, [p.name for p in action.parameters], tuple(action.injected))
        for parameter in action.parameters:
            if parameter.required and given is not None and parameter.name not in given:
                self.body.refuse(
                    "M004", call, f'{action.name}(…) lacks "{parameter.name}"', f"it takes {_listed(action)}"
                )
        if given is None:
            return ()
        return tuple(
            (p.name, read_pure(self.body, given[p.name]).expression) for p in action.parameters if p.name in given
        )

    def _bound(
        self, call: ast.Call, name: str, parameters: Sequence[str], injected: Sequence[str] = ()
    ) -> dict[str, ast.expr] | None:
        """Bind the arguments of a call to names; None after a finding."""
        starred = [a.value for a in call.args if isinstance(a, ast.Starred)]
        starred += [k.value for k in call.keywords if k.arg is None]
        if starred:
            self.body.refuse("M004", starred[0], "arguments are unpacked with *", "write each argument")
            return None
        if len(call.args) > len(parameters):
            self.body.refuse(
                "M004",
                call.args[len(parameters)],
                f"{name}(…) takes {len(parameters)} arguments, not {len(call.args)}",
                "leave the others out",
            )
            return None
        given = dict(zip(parameters, call.args, strict=False))
        for keyword in call.keywords:
            key = str(keyword.arg)
            if key in injected:
                self.body.refuse("M004", keyword, f'"{key}" of {name}(…) is injected', "leave it out")
            elif key in given:
                self.body.refuse("M004", keyword, f'"{key}" of {name}(…) is given twice', "leave one out")
            elif key not in parameters:
                remedy = did_you_mean(key, parameters, f"it has {', '.join(parameters) or 'none'}")
                self.body.refuse("M004", keyword, f'{name}(…) has no parameter "{key}"', remedy)
            else:
                given[key] = keyword.value
        return given

    def _compensation(
        self, node: ast.Call, service: ServiceSpec, action: ActionSpec, said: dict[str, Any]
    ) -> tuple[tuple[str, str] | None, bool]:
        """Decide how the step is undone: the workflow wins over the contract."""
        if "keep" in said:
            if "compensate" in said:
                self.body.refuse("M018", node, ".keep() and .compensate(…) contradict each other", "leave one out")
            return None, True
        if "compensate" in said:
            return said["compensate"], False
        if action.compensation is not None and not action.pure:
            return (service.name, action.compensation), False
        return None, False

    # --- methods of steps --------------------------------------------------------------------------------------------

    def _method(self, call: ast.Call, action: ActionSpec | None) -> Any:
        """Read `.retry(5)` and its like."""
        assert isinstance(call.func, ast.Attribute)
        match call.func.attr:
            case "compensate":
                return self._compensate(call, action)
            case "keep":
                if call.args or call.keywords:
                    self._refuse_method(call, ".keep() takes nothing", "leave the arguments out")
                return True
            case "retry":
                return self._retry(call)
            case "timeout":
                return self._timeout(call)
            case unknown:
                near = did_you_mean(unknown, _METHODS, "")
                remedy = (
                    near.replace("mean ", "mean .").replace("?", "(…)?")
                    if near
                    else "a step has .compensate(…), .keep(), .retry(…), .timeout(…)"
                )
                self._refuse_method(call, f'"{unknown}" is not known', remedy)
        return None

    def _refuse_method(self, call: ast.Call, message: str, remedy: str) -> None:
        assert isinstance(call.func, ast.Attribute)
        self.body.refuse("M018", attribute_name(call.func), message, remedy)

    def _compensate(self, call: ast.Call, undone: ActionSpec | None) -> tuple[str, str] | None:
        arguments = [*call.args, *(k.value for k in call.keywords)]
        if len(arguments) != 1:
            self._refuse_method(call, ".compensate(…) takes one action", "name it: .compensate(payments.refund)")
            return None
        match arguments[0]:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) as by if name in self.body.services:
                service = self.body.services[name]
            case other:
                self.body.refuse(
                    "M012", other, f"{shown(other)} is no action of a service of this workflow",
                    "name it: .compensate(payments.refund)",
                )  # fmt: skip
                return None
        action = service.actions.get(attribute)
        if action is None:
            remedy = did_you_mean(attribute, service.actions, f"its actions are {', '.join(service.actions)}")
            self.body.refuse("M014", attribute_name(by), f"{service.name} has no action {attribute}", remedy)
            return None
        if undone is not None and (problem := _compensation_problem(action, undone)):
            self.body.refuse("M014", by, *problem)
        return service.name, action.name

    def _retry(self, call: ast.Call) -> RetryPolicy | None:
        values = self._constants(call, ("attempts", "first", "factor", "at_most", "then"), required="attempts")
        if values is None:
            return None
        try:
            return retry_policy(**values)
        except (DeclarationError, TypeError) as error:
            self._refuse_method(call, *_said(error))
            return None

    def _timeout(self, call: ast.Call) -> tuple[int | None, str] | None:
        values = self._constants(call, ("seconds", "then"), required="seconds")
        if values is None:
            return None
        then = values.get("then", "ask")
        if then not in ("ask", "abandon"):
            self._refuse_method(call, f"then={then!r} is not known", 'give "ask" or "abandon"')
        try:
            return milliseconds(values["seconds"], "the timeout of a step"), then
        except DeclarationError as error:
            self._refuse_method(call, *_said(error))
            return None

    def _constants(self, call: ast.Call, names: Sequence[str], *, required: str) -> dict[str, Any] | None:
        """Read the arguments of a method of a step, all of which are constants."""
        assert isinstance(call.func, ast.Attribute)
        name = call.func.attr
        values: dict[str, Any] = {}
        pairs = [*zip(names, call.args, strict=False), *((str(k.arg), k.value) for k in call.keywords)]
        if len(call.args) > len(names):
            self._refuse_method(
                call, f".{name}(…) takes at most {len(names)} arguments", f"it takes {', '.join(names)}"
            )
            return None
        for key, node in pairs:
            if key not in names:
                remedy = did_you_mean(key, names, f"it takes {', '.join(names)}")
                self.body.refuse("M018", node, f".{name}(…) has no {key}=", remedy)
                return None
            is_constant, values[key] = self._constant(node)
            if not is_constant:
                return None
        if required not in values:
            self._refuse_method(call, f".{name}(…) lacks {required}", f"write .{name}({required})")
            return None
        return values

    def _constant(self, node: ast.expr) -> tuple[bool, Any]:
        """Give the value of a constant: a number, a text, a duration."""
        typed = read_pure(self.body, node)
        if isinstance(typed.type, Unknown):
            return False, None
        if typed.expression[0] != "lit":
            self.body.refuse(
                "M018", node, f"{shown(node)} is known only at run time, but is part of the plan",
                "use a number or a constant of the module",
            )  # fmt: skip
            return False, None
        if typed.type == DURATION:
            return True, evaluate(("as", "duration", typed.expression), _no_variable)
        return True, typed.expression[1]

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
            is_inner = position[-1:].isalpha()
            branch_position = f"{position}{'.' if is_inner else ''}{branch_letter(number)}"
            read, kind = self._branch(branch, branch_position, name)
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
        given = self._bound(node, "each", ("items", "body", "limit", "at_once", "by"))
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
        match typed.expression:
            case ("lit", int(number)) if typed.type == INT and number >= 1:
                return number
        if not isinstance(typed.type, Unknown):
            self.body.refuse(
                "M008",
                node,
                f"{what}={shown(node)} is no number that is known now",
                "use a number, or a constant of the module",
            )
        return None

    # --- waits, timers -----------------------------------------------------------------------------------------------

    def _wait(self, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
        given = self._bound(node, "wait_for", ("event", "key", "by", "timeout"))
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
        given = self._bound(node, "sleep", ("duration", "until", "by"))
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
        given = self._bound(node, workflow.name, [*inputs, *services])
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


def branch_letter(number: int) -> str:
    """Name a branch of a `together`: `a` to `z`, then `z27`, `z28` and so on."""
    return _LETTERS[number] if number < len(_LETTERS) else f"z{number + 1}"


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


def _compensation_problem(action: ActionSpec, undone: ActionSpec) -> tuple[str, str] | None:
    """Say why one action cannot undo the other."""
    if action.rejects:
        return f"{action.name} may reject", "a compensation may not: take one without rejects="
    required = [p for p in action.parameters if p.required]
    if not action.parameters or len(required) > 1:
        taken = f"{action.name} takes {_listed(action)}"
        return taken, f"a compensation takes what its action gives, and nothing else: {_named(undone.result)}"
    taken_type = action.parameters[0].type
    if not _takes(taken_type, undone.result):
        return (
            f"{action.name} takes {_named(taken_type)}, {undone.name} gives {_named(undone.result)}",
            f"name an action that takes {_named(undone.result)}",
        )
    return None


def _takes(parameter: Any, result: Any) -> bool:
    if parameter == result or type_of(parameter) == Opaque("Any"):
        return True
    if isinstance(parameter, type) and isinstance(result, type) and issubclass(result, parameter):
        return True
    if isinstance(wide := type_of(parameter), OptionalType) and wide.inner == type_of(result):
        return True
    return bool(shape_digest(parameter) == shape_digest(result))


def _is_constrained(parameter: Any) -> bool:
    """Tell whether an action may turn a value of the right type down."""
    return typing.get_origin(parameter.type) is typing.Annotated


def _listed(action: ActionSpec) -> str:
    return f"({', '.join(f'{p.name}: {_named(p.type)}' for p in action.parameters)})"


def _named(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else describe(type_of(annotation))


def _said(error: Exception) -> tuple[str, str]:
    """Give the message and the remedy of a declaration's error as those of a finding."""
    if isinstance(error, DeclarationError):
        return error.message, (error.remedy[:1].lower() + error.remedy[1:]) or "correct it"
    return str(error), "correct it"


def _no_variable(name: Any) -> Any:
    raise LookupError(name)
