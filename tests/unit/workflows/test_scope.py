"""Definite assignment and types: which name may be read where."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from minuet.finding import Finding
from minuet.workflows.reader.pure.valuetype import DECIMAL, INT, NULL, STR, OptionalType
from minuet.workflows.reader.scope import Bound, Partly, Scope, merge
from minuet.workflows.tree import Let

from .conftest import around

Load = Callable[[str], ModuleType]
Refused = Callable[[str], list[Finding]]

ATTEMPT = "async with attempt() as tried:\n    x = await payments.pair()\n"

FINE = {
    "both arms bind it": "if order.id:\n    x = 1\nelse:\n    x = 2\nreturn x",
    "every arm of a chain binds it": "if order.id:\n    x = 1\nelif order.note:\n    x = 3\nelse:\n    x = 2\nreturn x",
    "the other arm leaves": "if order.id:\n    x = 1\nelse:\n    return None\nreturn x",
    "the other arm rejects": "if order.id:\n    x = 1\nelse:\n    raise OutOfStock\nreturn x",
    "both inner arms leave": (
        "if order.id:\n    if order.note:\n        return 1\n    else:\n        raise OutOfStock\n"
        "else:\n    x = 2\nreturn x"
    ),
    "a loop runs at least once": "for _ in range(3):\n    x = await payments.pair()\nreturn x",
    "it is bound before break and in else": "for _ in range(3):\n    x = 1\n    break\nelse:\n    x = 2\nreturn x",
    "else leaves": (
        "for _ in range(3):\n    if order.id:\n        x = 1\n        break\nelse:\n    return None\nreturn x"
    ),
    "after the rejected one has returned": (ATTEMPT + "if tried.rejected:\n    return None\nreturn x"),
    "in the other arm of the question": (ATTEMPT + "if tried.rejected:\n    y = 1\nelse:\n    y = x[0]\nreturn y"),
    "under not rejected": (ATTEMPT + "if not tried.rejected:\n    return x\nreturn None"),
    "under is None": (ATTEMPT + "if tried.rejected is None and order.id:\n    return x\nreturn None"),
    "where the first arm binds it anew": (
        ATTEMPT + "if tried.rejected is not None:\n    x = (1, order.total)\nreturn x"
    ),
    "in a conditional expression": (ATTEMPT + "return None if tried.rejected else x"),
    "behind or": (ATTEMPT + "if tried.rejected or x[0] > 1:\n    return None"),
    "an attempt inside a deadline": (
        "async with deadline(5):\n    async with attempt() as tried:\n        x = await payments.pair()\n"
        "    if tried.rejected:\n        return None\nreturn x"
    ),
    "two attempts, one inside the other": (
        "async with attempt() as outer:\n    async with attempt() as inner:\n        x = await payments.pair()\n"
        "    if inner.rejected:\n        raise OutOfStock\nif outer.rejected:\n    return None\nreturn x"
    ),
    "a section binds it": "async with choreography():\n    x = await payments.pair()\nreturn x",
}

REFUSED = {
    "one arm only": ("if order.id:\n    x = 1\nreturn «x", "when line {1} takes the other arm"),
    "the other arm only": ("if order.id:\n    pass\nelse:\n    x = 1\nreturn «x", "when line {1} takes its first arm"),
    "before it is bound": ("y = «x\nx = 1", "here yet"),
    "break comes before": (
        "for _ in range(3):\n    if order.id:\n        break\n    x = 1\nreturn «x",
        "when the loop of line {1} is left by break",
    ),
    "the first round": (
        "for i in range(3):\n    if order.numbers[0] == i:\n        y = «x\n    x = 1",
        "here yet",
    ),
    "the index after its loop": ("for i in range(3):\n    y = i\nreturn «i", "after its loop"),
    "continue skips it": (
        "for _ in range(3):\n    if order.id:\n        continue\n    x = 1\nreturn «x",
        "when line {1} begins a round",
    ),
    "an attempt may be rejected": (
        ATTEMPT + "return «x",
        "when the attempt of line {1} was rejected",
    ),
    "in the arm of the rejection": (
        ATTEMPT + "if tried.rejected:\n    return «x",
        "when the attempt of line {1} was rejected",
    ),
    "only one rejection is excluded": (
        (ATTEMPT + "if isinstance(tried.rejected, OutOfStock):\n    return None\nreturn «x"),
        "when the attempt of line {1} was rejected",
    ),
    "bound before and anew in the attempt": (
        "x = 1\nasync with attempt() as tried:\n    x = 2\n    await payments.pair()\nreturn «x",
        "when the attempt of line {2} was rejected",
    ),
    "bound anew in one arm inside the attempt": (
        "x = 1\nasync with attempt() as tried:\n    if order.id:\n        x = 2\n    await payments.pair()\nreturn «x",
        "when the attempt of line {2} was rejected",
    ),
    "an attempt without a name": ("async with attempt():\n    x = await payments.pair()\nreturn «x", "of line {1}"),
    "another attempt of the same name": (
        (
            ATTEMPT
            + "async with attempt() as tried:\n    await payments.pair()\n"
            + "if tried.rejected:\n    return None\nreturn «x"
        ),
        "when the attempt of line {1} was rejected",
    ),
    "what an earlier round knew": (
        (
            "x = 1\nfor _ in range(3):\n    async with attempt() as tried:\n"
            "        x = 2\n        await payments.pair()\nreturn «x"
        ),
        "when the attempt of line {3} was rejected",
    ),
    "an attempt that is left by break": (
        (
            "x = 1\nasync with attempt() as tried:\n    for _ in range(2):\n        x = 2\n        break\n"
            "    await payments.pair()\nreturn «x"
        ),
        "when the attempt of line {2} was rejected",
    ),
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE)
def test_a_name_may_be_read_where_every_way_has_bound_it(body: str, module_of: Load) -> None:
    module_of(around(body))


@pytest.mark.parametrize(("body", "why"), REFUSED.values(), ids=REFUSED)
def test_a_name_that_some_way_has_not_bound_is_refused(body: str, why: str, findings_of: Refused) -> None:
    text = around(body)
    first = _module_line(around("«"), "«")
    line = _module_line(text, "«")

    found = findings_of(text.replace("«", ""))

    assert [f.code for f in found] == ["M011"], list(map(str, found))
    assert found[0].line == line
    name = body[body.index("«") + 1]
    assert f'"{name}" is not bound' in found[0].message
    for number in "123":
        why = why.replace(f"{{{number}}}", str(first + int(number) - 1))
    assert why in found[0].message
    assert found[0].remedy


def _module_line(text: str, mark: str) -> int:
    from .conftest import PRELUDE

    whole = PRELUDE + text
    return whole[: whole.index(mark)].count("\n") + 1


def _let(module: ModuleType, name: str) -> Any:
    return next(n.value for n in module.f.tree.body.parts if isinstance(n, Let) and n.name == name)


def test_types_of_arms_are_joined(module_of: Load) -> None:
    module = module_of(around("if order.id:\n    x = 1\nelse:\n    x = order.total\ny = x + 1"))

    assert _let(module, "y") == ("add", ("as", "decimal", ("var", "x")), ("lit", 1))


def test_types_go_round_a_loop(module_of: Load) -> None:
    module = module_of(
        around("x = None\nfor _ in range(3):\n    if x is not None:\n        y = x + 1\n    x = order.total\nz = x + 1")
    )

    inner = module.f.tree.body.parts[1].body.parts[0].then.parts[0]
    assert inner.value == ("add", ("as", ("optional", "decimal"), ("var", "x")), ("lit", 1))
    assert _let(module, "z") == ("add", ("as", "decimal", ("var", "x")), ("lit", 1))


def test_a_value_that_is_put_into_itself_comes_to_an_end(module_of: Load) -> None:
    module_of(around("x = (1,)\nfor _ in range(3):\n    x = (x, 1)\nreturn x"))


def test_a_wait_with_a_timeout_is_optional_and_an_each_is_a_list(module_of: Load) -> None:
    module = module_of(
        around(
            "seen = await wait_for(PickedUp, key=order.id, timeout=5)\n"
            "found = await each(order.lines, lambda line: inventory.pick(line), limit=3)\n"
            "n = seen.driver if seen else ''\ntotal = sum(found)"
        )
    )

    is_there = ("compare", ("var", "seen"), "isnot", ("lit", None))
    assert _let(module, "n") == ("if", is_there, ("field", ("var", "seen"), "driver", ""), ("lit", ""))
    assert _let(module, "total") == ("call", "sum", ("as", ("list", "bigint"), ("var", "found")))


def test_an_arm_that_leaves_does_not_count() -> None:
    scope = Scope()
    scope.bind("x", INT)

    assert merge([(scope, "here"), (None, "never")]) is scope
    assert merge([(None, "never")]) is None


def test_arms_that_differ_leave_a_reason() -> None:
    one, other = Scope(), Scope()
    one.bind("x", DECIMAL)
    one.bind("y", STR)
    other.bind("y", NULL)

    merged = merge([(one, "in one"), (other, "in the other")])

    assert merged is not None
    assert merged.lookup("x") == Partly("in the other")
    assert merged.lookup("y") == Bound(OptionalType(STR))
    assert merged.lookup("z") is None
