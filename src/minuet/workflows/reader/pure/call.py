"""Calls in pure expressions: the functions that a plan knows, constructors, and what is refused."""

from __future__ import annotations

import ast
import builtins
from typing import Any, Final

from minuet.contracts.action import Rejection
from minuet.workflows import words
from minuet.workflows.expression import FUNCTIONS, Expression
from minuet.workflows.reader import foreign
from minuet.workflows.reader.body import Body, ReadPure
from minuet.workflows.reader.pure import operation
from minuet.workflows.reader.pure.constructor import construct, is_constructor
from minuet.workflows.reader.pure.name import undefined
from minuet.workflows.reader.pure.truth import truth
from minuet.workflows.reader.pure.typed import POISON, Typed, python_value
from minuet.workflows.reader.pure.valuetype import (
    BOOL,
    ListType,
    MapType,
    Opaque,
    RecordType,
    RejectedType,
    Unknown,
    describe,
    join,
    unwrapped,
)
from minuet.workflows.reader.source import MISSING
from minuet.workflows.refusal import shown

_OVER_ELEMENTS: Final = (min, max, sum, sorted, any, all, list, tuple)
_FUNCTIONS: Final = {getattr(builtins, name): name for name in FUNCTIONS}


def read_call(body: Body, node: ast.Call, read: ReadPure) -> Typed:
    """Read a call; `read` reads its arguments, a generator as the list that it would give."""
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
    for argument in node.args:
        if isinstance(argument, ast.GeneratorExp) and function not in _OVER_ELEMENTS:
            return body.refuse(
                "M004", argument, "a generator is built element by element", "build a list: [… for x in xs]"
            )
    if isinstance(function, type) and is_constructor(function):
        return construct(body, node, function, read)
    if function is isinstance:
        return _kind_of_rejection(body, node, read)
    if function is words.at:
        return body.refuse(
            "M004", node, "at(…) is part of a condition", "it is the whole condition: if at(service, …):"
        )
    if function in (list, tuple) and len(node.args) == 1 and not node.keywords:
        return _as_list(body, node, read)
    try:
        name = _FUNCTIONS.get(function)
    except TypeError:  # what it means cannot be hashed
        name = None
    if name is not None:
        return _function(body, node, name, read)
    return refused_call(body, node, read)


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


def refused_call(body: Body, node: ast.Call, read: ReadPure) -> Typed:
    """Refuse a call of something that no plan can keep."""
    match node.func:
        case ast.Attribute(value=owner) if body.source.resolve(owner) is MISSING and (
            refused := _refused_method(body, node, owner, node.func.attr, read)
        ):
            return refused
        case ast.Call(func=ast.Name(id="getattr")):
            return _at_run_time(body, node)
        case ast.Name(id=name) if name not in foreign.NOT_YET and body.source.meaning(name) is MISSING:
            return undefined(body, node, name)
    code, message, remedy = foreign.refusal_of(node, body.source.resolve(node.func))
    return body.refuse(code, node, message, remedy)


def _refused_method(body: Body, node: ast.Call, owner: ast.expr, method: str, read: ReadPure) -> Typed | None:
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
    value = read(body, owner)
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


def _kind_of_rejection(body: Body, node: ast.Call, read: ReadPure) -> Typed:
    """Read `isinstance(tried.rejected, CardDeclined)`."""
    if len(node.args) == 2 and not node.keywords:
        value = read(body, node.args[0])
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


def _as_list(body: Body, node: ast.Call, read: ReadPure) -> Typed:
    value = read(body, node.args[0])
    item = operation.element_of(value.type)
    if item is None or isinstance(unwrapped(value.type), MapType):
        return body.refuse(
            "M004", node, f"{shown(node)} is no list of values", "use a list; sorted(…) makes one of a set"
        )
    return Typed(value.expression, ListType(item), value.is_raw)


def _function(body: Body, node: ast.Call, name: str, read: ReadPure) -> Typed:
    """Read a call of one of the functions that expressions know."""
    default = None
    for keyword in node.keywords:
        if name in ("min", "max") and keyword.arg == "default" and len(node.args) == 1:
            default = keyword.value
        else:
            problem = f"{name}(…, {keyword.arg}=) is not part of a plan"
            return body.refuse("M004", keyword.value, problem, "calculate it in an action, and return it")
    values = [read(body, argument) for argument in node.args]
    if any(isinstance(value.type, Unknown) for value in values):
        return POISON
    expressions = [python_value(value) for value in values]
    t = operation.called(name, [value.type for value in values])
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
        otherwise = read(body, default)
        return Typed(("if", expressions[0], call, python_value(otherwise)), join(t, otherwise.type), is_raw=False)
    return Typed(call, t, is_raw=False)
