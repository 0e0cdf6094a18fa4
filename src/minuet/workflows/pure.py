"""Pure expressions: from Python's syntax to expressions of a plan, with a type for each.

Whatever a plan cannot say is put on the list of findings, and read as `POISON`, so that one reading finds all.
"""

from __future__ import annotations

import ast
import builtins
import re
import types
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final, TypeVar

from minuet.contracts.action import Rejection
from minuet.contracts.step import Action
from minuet.workflows import foreign, operation, words
from minuet.workflows.body import POISON, Body, Typed
from minuet.workflows.constructor import construct, is_constructor
from minuet.workflows.expression import FUNCTIONS, Expression, is_wide
from minuet.workflows.refusal import attribute_name, did_you_mean, shown
from minuet.workflows.scope import Bound, Partly
from minuet.workflows.source import MISSING
from minuet.workflows.valuetype import (
    BOOL,
    DATE,
    DATETIME,
    DECIMAL,
    FLOAT,
    INT,
    NULL,
    STR,
    UNKNOWN,
    AttemptType,
    EnumType,
    ListType,
    MapType,
    Opaque,
    RecordType,
    RejectedType,
    Scalar,
    TupleType,
    Unknown,
    ValueType,
    conversion,
    describe,
    fields_of,
    join,
    joined,
    raw_of,
    type_of_value,
    unwrapped,
)

T = TypeVar("T")

_OPERATORS: Final[dict[type[ast.AST], tuple[str, str]]] = {
    ast.Add: ("add", "+"),
    ast.Sub: ("sub", "-"),
    ast.Mult: ("mul", "*"),
    ast.Div: ("div", "/"),
    ast.FloorDiv: ("floordiv", "//"),
    ast.Mod: ("mod", "%"),
}
_COMPARISONS: Final[dict[type[ast.AST], str]] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.In: "in",
    ast.NotIn: "notin",
    ast.Is: "is",
    ast.IsNot: "isnot",
}
_FUNCTIONS: Final = {getattr(builtins, name): name for name in FUNCTIONS}
_PORTABLE_DIRECTIVES: Final = re.compile(r"(?:[^%]|%[YmdHMSfjz%])*")
_SAMPLES: Final[dict[ValueType, Any]] = {
    BOOL: True,
    INT: 1,
    FLOAT: 1.0,
    DECIMAL: Decimal(1),
    STR: "",
    DATE: date(2000, 1, 1),
    DATETIME: datetime(2000, 1, 1, tzinfo=UTC),
    Scalar("time"): time(),
}
"""A value of each type that has formats."""


def read_pure(body: Body, node: ast.expr) -> Typed:
    """Read a pure expression."""
    match node:
        case ast.Constant():
            return _constant(body, node, node.value)
        case ast.Name():
            return _name(body, node)
        case ast.Attribute():
            return _attribute(body, node)
        case ast.Subscript():
            return _element(body, node)
        case ast.BinOp():
            return _calculation(body, node)
        case ast.UnaryOp():
            return _unary(body, node)
        case ast.BoolOp():
            return _choice_of_values(body, node)
        case ast.Compare():
            return _comparison(body, node)
        case ast.IfExp():
            return _conditional(body, node)
        case ast.JoinedStr():
            return _text(body, node)
        case ast.Call():
            return _call(body, node)
        case ast.List() | ast.Tuple() | ast.Set():
            return _sequence(body, node)
        case ast.Dict():
            return _mapping(body, node)
        case ast.ListComp():
            return _comprehension(body, node)
        case ast.GeneratorExp() | ast.SetComp() | ast.DictComp():
            if any(isinstance(child, ast.Await) for child in ast.walk(node)):
                return body.refuse("M013", node, "a comprehension has steps in it", "use each(…, limit=)")
            what = {ast.GeneratorExp: "a generator", ast.SetComp: "a set", ast.DictComp: "a dict"}[type(node)]
            return body.refuse("M004", node, f"{what} is built element by element", "build a list: [… for x in xs]")
    return _refused(body, node)


def read_condition(body: Body, node: ast.expr) -> Expression:
    """Read a condition: an expression whose value is True or False."""
    if isinstance(node, ast.BoolOp):
        return ("and" if isinstance(node.op, ast.And) else "or", *_each_knowing(body, node, read_condition))
    typed = read_pure(body, node)
    expression = truth(body, node, typed)
    is_boolean = typed.type == BOOL or expression[0] in ("compare", "not")
    return expression if is_boolean else ("call", "bool", expression)


def known_attempts(body: Body, test: ast.expr) -> tuple[dict[int, bool], dict[int, bool]]:
    """Tell which attempts are known to be rejected or not, when a condition is true, and when it is false."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            when_true, when_false = known_attempts(body, inner)
            return when_false, when_true
        case ast.BoolOp(op=operator, values=values):
            facts = [known_attempts(body, value) for value in values]
            if isinstance(operator, ast.And):
                return {site: known for true, _ in facts for site, known in true.items()}, {}
            return {}, {site: known for _, false in facts for site, known in false.items()}
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as operator], comparators=[ast.Constant(value=None)]):
            when_true, when_false = known_attempts(body, left)
            return (when_false, when_true) if isinstance(operator, ast.Is) else (when_true, when_false)
        case ast.Call(func=ast.Name(id="isinstance"), args=[value, kind]):
            when_true, when_false = known_attempts(body, value)
            return when_true, when_false if body.source.resolve(kind) is Rejection else {}
        case ast.Attribute(value=ast.Name(id=name), attr="rejected") if name not in body.lambdas:
            binding = body.scope.lookup(name)
            if isinstance(binding, Bound) and isinstance(binding.type, AttemptType):
                return {binding.type.site: True}, {binding.type.site: False}
    return {}, {}


def _each_knowing(body: Body, node: ast.BoolOp, read: Callable[[Body, ast.expr], T]) -> list[T]:
    """Read the operands of `and` and `or`, each knowing what the ones before it tell of attempts."""
    outer, results = body.scope, []
    for operand in node.values:
        results.append(read(body, operand))
        when_true, when_false = known_attempts(body, operand)
        body.scope = body.scope.knowing(when_true if isinstance(node.op, ast.And) else when_false)
    body.scope = outer
    return results


def python_value(typed: Typed) -> Expression:
    """Give the expression whose value is as Python has it: a raw one is converted by its type."""
    if typed.is_raw and (kind := conversion(typed.type)) is not None:
        return ("as", kind, typed.expression)
    return typed.expression


def truth(body: Body, node: ast.expr, typed: Typed) -> Expression:
    """Give an expression that is truthy exactly when the Python value is."""
    t = unwrapped(typed.type)
    match t:
        case Scalar("date" | "datetime" | "time" | "uuid") | RecordType() | RejectedType():
            return ("compare", typed.expression, "isnot", ("lit", None))
        case EnumType(cls) if not issubclass(cls, str | int):
            return ("compare", typed.expression, "isnot", ("lit", None))
        case AttemptType():
            body.refuse("M004", node, f"{shown(node)} is an attempt, and always true", f"ask {shown(node)}.rejected")
        case Opaque(name):
            body.refuse(
                "M004",
                node,
                f"whether {shown(node)} ({name}) is true is not known here",
                "compare it, or ask an action",
            )
    return typed.expression if t in (BOOL, STR) else python_value(typed)


# --- names, fields, elements -----------------------------------------------------------------------------------------


def _constant(body: Body, node: ast.expr, value: Any) -> Typed:
    """Fold a constant in, if it is of a plain type."""
    t = type_of_value(value)
    if not isinstance(t, Opaque):
        is_raw, raw = raw_of(value)
        if is_raw:
            return Typed(("lit", raw), t, is_raw=not isinstance(raw, int))
    code, message, remedy = foreign.refusal_of(node, value)
    if code != "M004":
        return body.refuse(code, node, message, remedy)
    what = type(value).__name__
    if callable(value) or isinstance(value, types.ModuleType):
        return body.refuse(
            "M004", node, f"{shown(node)} is a {what}, not a value", "values are data; call it in an action"
        )
    return body.refuse(
        "M004",
        node,
        f"{shown(node)} is a {what}, which a plan cannot keep",
        "use a plain value, or return it from an action",
    )


def _name(body: Body, node: ast.Name) -> Typed:
    name = node.id
    if name in body.lambdas:
        return body.lambdas[name]
    if name in body.services:
        return body.refuse(
            "M012", node, f'the service "{name}" is used as a value: who does a step is known only at run time',
            f"write {name}.action(…) where it is to act; one arm per service",
        )  # fmt: skip
    if name in body.source.local_names and name not in body.source.closure:
        return _variable(body, node)
    value = body.source.meaning(name)
    if value is MISSING:
        return undefined(body, node, name)
    return _constant(body, node, value)


def _variable(body: Body, node: ast.Name) -> Typed:
    binding = body.scope.lookup(node.id)
    if binding is None:
        return body.refuse("M011", node, f'"{node.id}" is not bound here yet', "give it a value before it is read")
    if isinstance(binding, Partly):
        remedy = "bind it on every way, or read it only where it is bound"
        if binding.site is not None:
            remedy = "read it where tried.rejected is known to be false, as after `if tried.rejected: … return`"
        return body.refuse("M011", node, f'"{node.id}" is not bound {binding.why}', remedy)
    return Typed(("var", node.id), binding.type)


def undefined(body: Body, node: ast.expr, name: str) -> Typed:
    """Refuse a name that means nothing at this point of the import."""
    if body.source.is_defined_below(name):
        return body.refuse(
            "M004",
            node,
            f'"{name}" is defined below this workflow, which is read before',
            "move it up, above the workflow",
        )
    return body.refuse("M004", node, f'"{name}" is not defined', "define or import it above the workflow")


def _attribute(body: Body, node: ast.Attribute) -> Typed:
    value = body.source.resolve(node)
    if value is not MISSING:
        if isinstance(value, Action):
            return body.refuse(
                "M012", node, f"{shown(node)} is an action of a class, not of a service", "call it on a service"
            )
        return _constant(body, node, value)
    root = body.source.resolve(node.value)
    if isinstance(root, types.ModuleType | type):
        known = [name for name in dir(root) if not name.startswith("_")]
        remedy = did_you_mean(node.attr, known, "define it there")
        return body.refuse("M004", node, f"{shown(node.value)} has no {node.attr}", remedy)
    if isinstance(node.value, ast.Name) and node.value.id in body.services and node.value.id not in body.lambdas:
        return body.refuse(
            "M012", node, f"{shown(node)} is used as a value: who does a step is known only at run time",
            "call it where it is to act, and await it",
        )  # fmt: skip
    if isinstance(node.value, ast.Name) and node.value.id not in body.lambdas:
        binding = body.scope.lookup(node.value.id)
        if binding is not None and not isinstance(binding, Partly) and isinstance(binding.type, AttemptType):
            if node.attr == "rejected":
                return Typed(("var", f"{node.value.id}.rejected"), RejectedType(binding.type.site))
            remedy = did_you_mean(node.attr, ["rejected"], f"ask {node.value.id}.rejected")
            return body.refuse("M004", attribute_name(node), f"an attempt has no {node.attr}", remedy)
    base = read_pure(body, node.value)
    return _field(body, node, base)


def _field(body: Body, node: ast.Attribute, base: Typed) -> Typed:
    name, at = node.attr, attribute_name(node)
    t = unwrapped(base.type)
    match t:
        case Unknown():
            return POISON
        case RejectedType():
            if name == "code":
                return Typed(("field", base.expression, "code"), STR)
            return body.refuse(
                "M004", at, f"a rejection has no {name} here", "ask its code, or isinstance(…, CardDeclined)"
            )
        case EnumType(cls) if name == "value":
            kinds = (type_of_value(member.value) for member in cls)
            return Typed(base.expression, joined(kinds))
        case RecordType(cls):
            try:
                fields = fields_of(t)
            except (NameError, TypeError) as error:
                return body.refuse(
                    "M003",
                    node,
                    f"the types of the fields of {cls.__name__} are not known: {error}",
                    "define them above it",
                )
            if name in fields:
                field = fields[name]
                default = (field.default,) if field.is_settled and not field.is_required else ()
                return Typed(("field", base.expression, field.wire, *default), field.type)
            if hasattr(cls, name):
                kind = "method" if callable(getattr(cls, name)) else "property"
                return body.refuse(
                    "M004", at, f"{name} is a {kind} of {cls.__name__}, which only its own code can evaluate",
                    "return it from an action",
                )  # fmt: skip
            remedy = did_you_mean(name, fields, f"its fields are {', '.join(fields) or 'none'}")
            return body.refuse("M004", at, f"{cls.__name__} has no field {name}", remedy)
        case Opaque("Any"):
            return body.refuse(
                "M003", node, f"the type of {shown(node.value)} is Any", "annotate it with a message type"
            )
    return body.refuse(
        "M004",
        at,
        f"{shown(node)}: values of type {describe(t)} have no fields in a plan",
        "return it from an action",
    )


def _element(body: Body, node: ast.Subscript) -> Typed:
    base = read_pure(body, node.value)
    if isinstance(node.slice, ast.Slice):
        return body.refuse("M004", node, "a slice is not part of a plan", "return the part from an action")
    index = read_pure(body, node.slice)
    t, by = unwrapped(base.type), operation.plain(index.type)
    if isinstance(t, Unknown) or isinstance(by, Unknown):
        return POISON
    match t:
        case TupleType(items):
            match index.expression:
                case ("lit", int(place)) | ("neg", ("lit", int(place))) if isinstance(place, int):
                    place = -place if index.expression[0] == "neg" else place
                    if not -len(items) <= place < len(items):
                        return body.refuse(
                            "M004", node, f"{shown(node.value)} has {len(items)} elements", "take one that it has"
                        )
                    return element_of_tuple(base, place)
            element = joined(items)
            if by in (INT, BOOL):
                return Typed(("index", base.expression, python_value(index)), element, base.is_raw)
        case ListType(item, False) if by in (INT, BOOL):
            return Typed(("index", base.expression, python_value(index)), item, base.is_raw)
        case MapType(value) if by == STR:
            return Typed(("index", base.expression, index.expression), value, base.is_raw)
        case Scalar("str") if by in (INT, BOOL):
            return Typed(("index", base.expression, python_value(index)), STR)
        case Opaque("Any"):
            return body.refuse("M003", node, f"the type of {shown(node.value)} is Any", "annotate it")
    return body.refuse(
        "M004", node, f"{describe(t)}[{describe(index.type)}] is no pure operation", "return the element from an action"
    )


def element_of_tuple(base: Typed, place: int) -> Typed:
    """Give an element of a tuple whose length is known; that is never missing."""
    t = unwrapped(base.type)
    assert isinstance(t, TupleType)
    whole: Expression = ("as", ("tuple", (None,) * len(t.items)), base.expression)
    return Typed(("index", whole, ("lit", place)), t.items[place], base.is_raw)


# --- operators -------------------------------------------------------------------------------------------------------


def _calculation(body: Body, node: ast.BinOp) -> Typed:
    left, right = read_pure(body, node.left), read_pure(body, node.right)
    if type(node.op) not in _OPERATORS:
        what = {ast.Pow: "**", ast.MatMult: "@"}.get(type(node.op), "a bit operation")
        return body.refuse("M004", node, f"{what} is not part of a plan", "calculate it in an action, and return it")
    operator, sign = _OPERATORS[type(node.op)]
    result = operation.calculated(operator, left.type, right.type)
    if result is None:
        return body.refuse("M004", node, *operation.calculation_problem(sign, left.type, right.type))
    return Typed((operator, python_value(left), python_value(right)), result, is_raw=False)


def _unary(body: Body, node: ast.UnaryOp) -> Typed:
    if isinstance(node.op, ast.Not):
        return Typed(("not", read_condition(body, node.operand)), BOOL, is_raw=False)
    value = read_pure(body, node.operand)
    operator = {ast.USub: "neg", ast.UAdd: "pos"}.get(type(node.op))
    t = operation.plain(value.type)
    if operator is None or not (operation.is_number(t) or t == Scalar("duration")):
        return body.refuse(
            "M004", node, f"{shown(node)} is no pure operation", "calculate it in an action, and return it"
        )
    match value.expression:
        case ("lit", int() | float() as number) if operator == "neg":
            return Typed(("lit", -number), INT if t == BOOL else t)
    return Typed((operator, python_value(value)), INT if t == BOOL else t, is_raw=False)


def _choice_of_values(body: Body, node: ast.BoolOp) -> Typed:
    values = _each_knowing(body, node, read_pure)
    truths = [truth(body, part, value) for part, value in zip(node.values, values, strict=True)]
    t = joined(value.type for value in values)
    word = "and" if isinstance(node.op, ast.And) else "or"
    if all(value.type == BOOL for value in values):
        return Typed((word, *truths), BOOL, is_raw=False)
    expressions = [python_value(value) for value in values]
    if truths[:-1] == expressions[:-1]:
        return Typed((word, *expressions), t, is_raw=False)
    result = expressions[-1]
    for is_true, expression in zip(reversed(truths[:-1]), reversed(expressions[:-1]), strict=True):
        arms = (result, expression) if word == "and" else (expression, result)
        result = ("if", is_true, *arms)
    return Typed(result, t, is_raw=True)


def _conditional(body: Body, node: ast.IfExp) -> Typed:
    condition, outer = read_condition(body, node.test), body.scope
    when_true, when_false = known_attempts(body, node.test)
    body.scope = outer.knowing(when_true)
    then = read_pure(body, node.body)
    body.scope = outer.knowing(when_false)
    otherwise = read_pure(body, node.orelse)
    body.scope = outer
    expression = ("if", condition, then.expression, otherwise.expression)
    return Typed(expression, join(then.type, otherwise.type), is_raw=then.is_raw or otherwise.is_raw)


def _comparison(body: Body, node: ast.Compare) -> Typed:
    operands = [node.left, *node.comparators]
    values = [read_pure(body, operand) for operand in operands]
    parts: list[Any] = [python_value(values[0])]
    for operator, left, right, place in zip(node.ops, values, values[1:], node.comparators, strict=False):
        sign = _COMPARISONS[type(operator)]
        problem = _comparison_problem(sign, left.type, right.type)
        if problem is not None:
            body.refuse("M004", node, *problem)
            return POISON
        if sign in ("is", "isnot") and right.type != NULL and not isinstance(right.type, Unknown):
            return body.refuse("M004", place, f"{shown(node)} asks for identity, which does not travel", "use == or !=")
        parts += [sign, python_value(right)]
    return Typed(("compare", *parts), BOOL, is_raw=False)


def _comparison_problem(sign: str, left: ValueType, right: ValueType) -> tuple[str, str] | None:
    match sign:
        case "is" | "isnot":
            return None
        case "eq" | "ne":
            return operation.equality_problem(left, right)
        case "in" | "notin":
            container = operation.plain(right)
            match container:
                case Unknown():
                    return None
                case ListType(item):
                    return operation.equality_problem(left, item)
                case TupleType(items):
                    problems = (operation.equality_problem(left, item) for item in items)
                    return next((problem for problem in problems if problem), None)
                case MapType() | Scalar("str"):
                    if operation.plain(left) in (STR, UNKNOWN):
                        return None
            return f"{describe(left)} in {describe(right)} is no pure operation", "ask an action"
    return operation.order_problem(left, right)


# --- text, lists, dicts ----------------------------------------------------------------------------------------------


def _text(body: Body, node: ast.JoinedStr) -> Typed:
    parts: list[Any] = []
    for part in node.values:
        match part:
            case ast.Constant(value=str(text)):
                parts.append(text)
            case ast.FormattedValue(value=value, conversion=conversion_code, format_spec=spec):
                typed = read_pure(body, value)
                if problem := operation.text_problem(typed.type):
                    body.refuse("M004", value, *problem)
                conversion_name = "" if conversion_code == -1 else chr(conversion_code)
                parts.append((python_value(typed), conversion_name, _spec(body, value, spec, typed.type)))
    return Typed(("format", *parts), STR, is_raw=False)


def _spec(body: Body, value: ast.expr, spec: ast.expr | None, t: ValueType) -> str:
    match spec:
        case None | ast.JoinedStr(values=[]):
            return ""
        case ast.JoinedStr(values=[ast.Constant(value=str(text))]):
            if problem := _spec_problem(text, operation.plain(t)):
                body.refuse("M004", value, *problem)
            return text
    body.refuse("M004", value, "the format is calculated", "write it as text")
    return ""


def _spec_problem(spec: str, t: ValueType) -> tuple[str, str] | None:
    """Say why values of a type cannot be formatted like this."""
    if is_wide(spec):
        return f'the format "{spec}" is too wide', "give a smaller width"
    sample = _SAMPLES.get(t)
    if isinstance(sample, date | time):
        is_portable = _PORTABLE_DIRECTIVES.fullmatch(spec) is not None
        return None if is_portable else (f'the format "{spec}" differs from place to place', "use %Y %m %d %H %M %S")
    if spec.endswith("n"):
        return f'the format "{spec}" asks the locale, which differs', 'use "," or "_"'
    try:
        format(sample, spec)
    except (TypeError, ValueError) as error:
        return f'the format "{spec}" does not fit {describe(t)}: {error}', "use one that fits"
    return None


def _sequence(body: Body, node: ast.List | ast.Tuple | ast.Set) -> Typed:
    for item in node.elts:
        if isinstance(item, ast.Starred):
            return body.refuse("M004", item, "a list is unpacked with *", "add lists with +")
    items = [read_pure(body, item) for item in node.elts]
    expression = ("list", *(item.expression for item in items))
    kinds = [item.type for item in items]
    if all(item.expression[0] == "lit" for item in items):
        expression = ("lit", [item.expression[1] for item in items])
    if isinstance(node, ast.Tuple):
        return Typed(expression, TupleType(tuple(kinds)))
    return Typed(expression, ListType(joined(kinds), is_set=isinstance(node, ast.Set)))


def _mapping(body: Body, node: ast.Dict) -> Typed:
    items: list[tuple[Expression, Expression]] = []
    t: ValueType = UNKNOWN
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            return body.refuse("M004", value, "a dict is unpacked with **", "write its keys")
        k, v = read_pure(body, key), read_pure(body, value)
        if operation.plain(k.type) not in (STR, UNKNOWN):
            return body.refuse("M004", key, f"a key is of type {describe(k.type)}", "keys of JSON are text")
        items.append((k.expression, v.expression))
        t = join(t, v.type)
    return Typed(("map", tuple(items)), MapType(t))


def _comprehension(body: Body, node: ast.ListComp | ast.GeneratorExp) -> Typed:
    if any(isinstance(child, ast.Await) for child in ast.walk(node)):
        return body.refuse("M013", node, "a comprehension has steps in it", "use each(…, limit=)")
    if len(node.generators) > 1:
        return body.refuse("M004", node, "a comprehension goes through two lists", "return the pairs from an action")
    (loop,) = node.generators
    if loop.is_async:
        return body.refuse("M013", node, "a comprehension is asynchronous", "use each(…, limit=)")
    over = read_pure(body, loop.iter)
    item = operation.element_of(over.type)
    if item is None:
        problem = f"a comprehension goes through {describe(over.type)}"
        return body.refuse("M004", loop.iter, problem, "go through a list; sorted(…) makes one of a set")
    match loop.target:
        case ast.Name(id=name):
            outer = body.lambdas
            body.lambdas = {**outer, name: Typed(("local", name), item, over.is_raw)}
        case _:
            return body.refuse(
                "M004", loop.target, "a comprehension unpacks its elements", "use one name, and index it"
            )
    conditions = tuple(read_condition(body, condition) for condition in loop.ifs)
    element = read_pure(body, node.elt)
    body.lambdas = outer
    expression = ("each", name, over.expression, conditions, element.expression)
    return Typed(expression, ListType(element.type), element.is_raw)


# --- calls -----------------------------------------------------------------------------------------------------------


def _call(body: Body, node: ast.Call) -> Typed:
    if is_promise(body, node):
        return body.refuse(
            "M009", node, f"{shown(node)} is a step that nobody awaits",
            "await it on a line of its own, or put it into together(…)",
        )  # fmt: skip
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            return body.refuse("M004", argument, "arguments are unpacked with *", "write each argument")
    for keyword in node.keywords:
        if keyword.arg is None:
            return body.refuse("M004", keyword.value, "arguments are unpacked with **", "write each argument")
    function = body.source.resolve(node.func)
    if isinstance(function, type) and is_constructor(function):
        return construct(body, node, function, read_pure)
    if function is isinstance:
        return _kind_of_rejection(body, node)
    if function is words.at:
        return body.refuse(
            "M004", node, "at(…) is part of a condition", "it is the whole condition: if at(service, …):"
        )
    if function in (list, tuple) and len(node.args) == 1 and not node.keywords:
        return _as_list(body, node)
    try:
        name = _FUNCTIONS.get(function)
    except TypeError:  # what it means cannot be hashed
        name = None
    if name is not None:
        return _function(body, node, name)
    return refused_call(body, node)


def is_promise(body: Body, node: ast.expr) -> bool:
    """Tell whether a call gives something to await: a step, a word, a workflow."""
    while isinstance(node, ast.Call):
        match node.func:
            case ast.Attribute(value=ast.Name(id=name)) if name in body.services and name not in body.lambdas:
                return True
            case ast.Attribute(value=ast.Call() as inner):
                node = inner
                continue
        meaning = body.source.resolve(node.func)
        return meaning in (words.together, words.each, words.wait_for, words.sleep) or is_workflow(meaning)
    return False


def is_workflow(meaning: Any) -> bool:
    """Tell whether an object is a workflow, which `workflow.py` makes, above this module."""
    return getattr(type(meaning), "is_workflow", False) is True


def refused_call(body: Body, node: ast.Call) -> Typed:
    """Refuse a call of something that no plan can keep."""
    match node.func:
        case ast.Attribute(value=owner) if body.source.resolve(owner) is MISSING and (
            refused := _refused_method(body, node, owner, node.func.attr)
        ):
            return refused
        case ast.Call(func=ast.Name(id="getattr")):
            return _at_run_time(body, node)
        case ast.Name(id=name) if name not in foreign.NOT_YET and body.source.meaning(name) is MISSING:
            return undefined(body, node, name)
    code, message, remedy = foreign.refusal_of(node, body.source.resolve(node.func))
    return body.refuse(code, node, message, remedy)


def _refused_method(body: Body, node: ast.Call, owner: ast.expr, method: str) -> Typed | None:
    """Refuse `value.method(…)`; None where the name before the dot means nothing at all."""
    root = owner
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    if isinstance(root, ast.Name) and not _is_value(body, root.id) and isinstance(owner, ast.Name | ast.Attribute):
        return None
    if isinstance(owner, ast.Name) and method in foreign.MUTATORS:
        return body.refuse(
            "M010", node, f"{shown(node)} changes a value, and values are facts", "build a new one: xs + [x]"
        )
    mark = body.mark()
    value = read_pure(body, owner)
    if isinstance(value.type, Unknown | Opaque) and not isinstance(owner, ast.Name | ast.Attribute):
        body.back_to(mark)
        return _at_run_time(body, node)
    if isinstance(value.type, Unknown):
        return POISON
    problem = f"{method}() is a method of {describe(unwrapped(value.type))}, which nobody would call"
    return body.refuse("M004", node, problem, "return it from an action")


def _is_value(body: Body, name: str) -> bool:
    return name in body.source.local_names or name in body.lambdas


def _at_run_time(body: Body, node: ast.Call) -> Typed:
    return body.refuse("M012", node, f"who does {shown(node)} is known only at run time", "write one arm per service")


def _kind_of_rejection(body: Body, node: ast.Call) -> Typed:
    """Read `isinstance(tried.rejected, CardDeclined)`."""
    if len(node.args) == 2 and not node.keywords:
        value = read_pure(body, node.args[0])
        if isinstance(value.type, Unknown):
            return POISON
        kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        classes = [body.source.resolve(kind) for kind in kinds]
        if isinstance(value.type, RejectedType):
            is_there: Expression = ("compare", value.expression, "isnot", ("lit", None))
            if Rejection in classes:
                return Typed(is_there, BOOL, is_raw=False)
            if all(isinstance(cls, type) and issubclass(cls, Rejection) for cls in classes):
                codes = sorted({code for cls in classes for code in _codes(cls)})
                has_code = ("compare", ("field", value.expression, "code"), "in", ("lit", codes))
                return Typed(("and", is_there, has_code), BOOL, is_raw=False)
            return body.refuse(
                "M004", node.args[1], f"{shown(node.args[1])} is no declared rejection", "name a Rejection"
            )
    return body.refuse(
        "M004",
        node,
        "isinstance asks for a class, which does not travel",
        "compare a field; tried.rejected may be asked",
    )


def _codes(cls: type[Rejection]) -> list[str]:
    return [cls.code, *(code for sub in cls.__subclasses__() for code in _codes(sub))]


def _as_list(body: Body, node: ast.Call) -> Typed:
    argument = node.args[0]
    value = _comprehension(body, argument) if isinstance(argument, ast.GeneratorExp) else read_pure(body, argument)
    item = operation.element_of(value.type)
    if item is None or isinstance(unwrapped(value.type), MapType):
        return body.refuse(
            "M004", node, f"{shown(node)} is no list of values", "use a list; sorted(…) makes one of a set"
        )
    return Typed(value.expression, ListType(item), value.is_raw)


def _function(body: Body, node: ast.Call, name: str) -> Typed:
    """Read a call of one of the functions that expressions know."""
    default = None
    for keyword in node.keywords:
        if name in ("min", "max") and keyword.arg == "default" and len(node.args) == 1:
            default = keyword.value
        else:
            problem = f"{name}(…, {keyword.arg}=) is not part of a plan"
            return body.refuse("M004", keyword.value, problem, "calculate it in an action, and return it")
    values = [
        _comprehension(body, argument)
        if isinstance(argument, ast.GeneratorExp) and name in ("min", "max", "sum", "sorted", "any", "all")
        else read_pure(body, argument)
        for argument in node.args
    ]
    if any(isinstance(value.type, Unknown) for value in values):
        return POISON
    expressions = [python_value(value) for value in values]
    t = _result_of(name, [value.type for value in values])
    if t is None:
        listed = ", ".join(describe(value.type) for value in values)
        return body.refuse("M004", node, f"{name}({listed}) is no pure operation", "calculate it in an action")
    if name in ("any", "all"):
        if isinstance(node.args[0], ast.ListComp):
            expressions = [("add", ("list",), expressions[0])]  # not lazily: Python builds the list first
        element = operation.element_of(values[0].type)
        if isinstance(element, RecordType | Opaque):
            return body.refuse("M004", node, f"{name}(…) asks whether records are true", "ask for a field of each")
    if name == "str" and (unreadable := operation.text_problem(values[0].type)):
        return body.refuse("M004", node, *unreadable)
    if name == "bool":
        return Typed(("call", "bool", truth(body, node.args[0], values[0])), BOOL, is_raw=False)
    call: Expression = ("call", name, *expressions)
    if default is not None:
        otherwise = read_pure(body, default)
        return Typed(("if", expressions[0], call, python_value(otherwise)), join(t, otherwise.type), is_raw=False)
    return Typed(call, t, is_raw=False)


def _result_of(name: str, arguments: list[ValueType]) -> ValueType | None:
    """Give the type of a call, or None where there is no such call."""
    kinds = [operation.plain(argument) for argument in arguments]
    match name, kinds:
        case "len", [ListType(_, is_set)]:
            return None if is_set else INT
        case "len", [TupleType() | MapType() | Scalar("str" | "bytes")]:
            return INT
        case (("any" | "all" | "sorted" | "min" | "max" | "sum"), [ListType(item) | MapType(item), *rest]):
            element = STR if isinstance(kinds[0], MapType) else item
            return _result_over(name, element, rest)
        case (("any" | "all" | "sorted" | "min" | "max" | "sum"), [TupleType() as items, *rest]) if len(kinds) == 1:
            element = operation.element_of(items) or UNKNOWN
            return _result_over(name, element, rest)
        case (("min" | "max"), [first, second, *rest]):
            if any(operation.order_problem(first, other) for other in (second, *rest)):
                return None
            return joined(arguments)
        case "abs", [Scalar("duration")]:
            return kinds[0]
        case "abs", [number] if operation.is_number(number):
            return INT if number == BOOL else number
        case "round", [number] if operation.is_number(number):
            return INT
        case "round", [number, digits] if operation.is_number(number) and digits in (INT, BOOL):
            return INT if number == BOOL else number
        case "str", [_]:
            return STR
        case "bool", [_]:
            return BOOL
        case "int", [Scalar("str" | "bool" | "int" | "float" | "decimal")]:
            return INT
        case "float", [Scalar("str" | "bool" | "int" | "float" | "decimal")]:
            return FLOAT
    return None


def _result_over(name: str, element: ValueType, rest: list[ValueType]) -> ValueType | None:
    """Give the type of a function over the elements of a list."""
    match name:
        case "any" | "all":
            return None if rest else BOOL
        case "sorted" if not rest and operation.order_problem(element, element) is None:
            return ListType(element)
        case "min" | "max" if not rest and operation.order_problem(element, element) is None:
            return element
        case "sum" if operation.is_number(element) and len(rest) <= 1:
            total = join(INT, operation.plain(element))
            if rest:
                return operation.calculated("add", rest[0], total)
            return total if not isinstance(total, Unknown) else INT
        case "sum" if rest == [element] == [Scalar("duration")]:
            return element
    return None


# --- what is no expression -------------------------------------------------------------------------------------------


def _refused(body: Body, node: ast.expr) -> Typed:
    match node:
        case ast.Await():
            return body.refuse(
                "M009", node, f"{shown(node.value)} is awaited inside an expression",
                "a step stands on a line of its own: answer = await …",
            )  # fmt: skip
        case ast.Lambda():
            return body.refuse(
                "M013", node, "a lambda is a piece of code", "name it as a workflow of its own and call it"
            )
        case ast.NamedExpr():
            return body.refuse("M004", node, ":= binds a name inside an expression", "assign it on a line of its own")
        case ast.Yield() | ast.YieldFrom():
            return body.refuse("M002", node, "a workflow yields", "return one value")
        case ast.Starred():
            return body.refuse("M004", node, "a value is unpacked with *", "write each element")
    return body.refuse("M004", node, f"{shown(node)} is not part of a plan", "move it into an action")
