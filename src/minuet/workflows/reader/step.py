"""Steps: an action with its arguments, and what its methods say about retry, timeout and compensation."""

from __future__ import annotations

import ast
import typing
from collections.abc import Sequence
from typing import Any, Final

from minuet.contracts.action import ActionSpec, RetryPolicy, ServiceSpec
from minuet.contracts.duration import milliseconds, retry_policy
from minuet.contracts.schema import schema_of, shape_digest
from minuet.errors import DeclarationError
from minuet.workflows.expression import Expression, is_partial
from minuet.workflows.reader.argument import bound_arguments, constant_value, text_of
from minuet.workflows.reader.body import Body, nothing
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.valuetype import Opaque, OptionalType, Unknown, ValueType, describe, type_of
from minuet.workflows.refusal import attribute_name, did_you_mean, shown
from minuet.workflows.tree import Node, Step

_METHODS: Final = ("compensate", "keep", "retry", "timeout")


def read_step(body: Body, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
    """Read `payments.charge(…)` with its methods, and give the type of its result."""
    return _StepReader(body).read(node, position, out)


class _StepReader:
    """Reads the steps of one body."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def read(self, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
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
            return nothing(self.body, node)
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
        self.body.schemas[position] = schema_of(action.result)
        if action.private is not None:
            self.body.audiences[position] = action.private
        return step, type_of(action.result)

    def _arguments(self, call: ast.Call, action: ActionSpec) -> tuple[tuple[str, Expression], ...]:
        """Bind the arguments to the parameters of the action, in the order of its signature."""
        given = bound_arguments(
            self.body, call, action.name, [p.name for p in action.parameters], tuple(action.injected)
        )
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
            self._refuse_method(call, *text_of(error))
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
            self._refuse_method(call, *text_of(error))
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
        return True, constant_value(typed)


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
