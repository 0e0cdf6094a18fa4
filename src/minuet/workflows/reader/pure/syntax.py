"""Pure expressions: from Python's syntax to expressions of a plan, with a type for each.

Whatever a plan cannot say is put on the list of findings, and read as `POISON`, so that one reading finds all.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Final, TypeVar

from minuet.workflows.expression import Expression
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.pure import operation
from minuet.workflows.reader.pure.call import read_call
from minuet.workflows.reader.pure.name import read_attribute, read_constant, read_name
from minuet.workflows.reader.pure.truth import known_attempts, truth
from minuet.workflows.reader.pure.typed import POISON, Typed, element_of_tuple, python_value
from minuet.workflows.reader.pure.valuetype import (
    BOOL,
    INT,
    NULL,
    STR,
    UNKNOWN,
    ListType,
    MapType,
    Opaque,
    Scalar,
    TupleType,
    Unknown,
    ValueType,
    describe,
    join,
    joined,
    unwrapped,
)
from minuet.workflows.refusal import shown

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


def read_pure(body: Body, node: ast.expr) -> Typed:
    """Read a pure expression."""
    match node:
        case ast.Constant():
            return read_constant(body, node, node.value)
        case ast.Name():
            return read_name(body, node)
        case ast.Attribute():
            return read_attribute(body, node, read_pure)
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
            return read_call(body, node, _read_argument)
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


def _each_knowing(body: Body, node: ast.BoolOp, read: Callable[[Body, ast.expr], T]) -> list[T]:
    """Read the operands of `and` and `or`, each knowing what the ones before it tell of attempts."""
    outer, results = body.scope, []
    for operand in node.values:
        results.append(read(body, operand))
        when_true, when_false = known_attempts(body, operand)
        body.scope = body.scope.knowing(when_true if isinstance(node.op, ast.And) else when_false)
    body.scope = outer
    return results


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
        problem = operation.comparison_problem(sign, left.type, right.type)
        if problem is not None:
            body.refuse("M004", node, *problem)
            return POISON
        if sign in ("is", "isnot") and right.type != NULL and not isinstance(right.type, Unknown):
            return body.refuse("M004", place, f"{shown(node)} asks for identity, which does not travel", "use == or !=")
        parts += [sign, python_value(right)]
    return Typed(("compare", *parts), BOOL, is_raw=False)


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
            if problem := operation.format_problem(text, operation.plain(t)):
                body.refuse("M004", value, *problem)
            return text
    body.refuse("M004", value, "the format is calculated", "write it as text")
    return ""


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


def _read_argument(body: Body, node: ast.expr) -> Typed:
    return _comprehension(body, node) if isinstance(node, ast.GeneratorExp) else read_pure(body, node)


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
