"""Expressions: what Python gives, from JSON; limits; and the same text in Python and in a plan, at random."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import FunctionType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from minuet.contracts.codec import codec_for
from minuet.workflows.expression import (
    INTEGER_BITS_MAX,
    LIST_LENGTH_MAX,
    STEPS_MAX,
    TEXT_LENGTH_MAX,
    Expression,
    ExpressionFailed,
    evaluate,
    from_json,
    is_partial,
    show,
    substitute,
    to_json_bytes,
    variables,
)
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.typed import python_value
from minuet.workflows.reader.pure.valuetype import type_of
from minuet.workflows.reader.scope import Scope
from minuet.workflows.reader.source import Source
from minuet.workflows.refusal import Refusals


@dataclass(frozen=True)
class Item:
    """A record with a field of each kind."""

    name: str
    count: int
    price: Decimal
    rate: float
    day: date
    at: datetime
    span: timedelta
    tags: tuple[str, ...]
    sizes: list[int]
    ready: bool
    code: UUID
    note: str | None = None


VALUES: dict[str, tuple[Any, Any]] = {
    "i": (int, 7),
    "j": (int, -3),
    "big": (int, 2**60 + 1),
    "x": (float, 2.5),
    "d": (Decimal, Decimal("19.90")),
    "e": (Decimal, Decimal("-0.05")),
    "s": (str, "tea"),
    "t": (str, "Grüße {x}"),
    "b": (bool, True),
    "n": (int | None, None),
    "m": (int | None, 4),
    "xs": (list[int], [3, 1, 2]),
    "ds": (list[Decimal], [Decimal("1.10"), Decimal("0.90")]),
    "empty": (list[int], []),
    "table": (dict[str, int], {"a": 1, "tea": 2}),
    "day": (date, date(2026, 2, 28)),
    "at": (datetime, datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
    "span": (timedelta, timedelta(hours=36, seconds=1)),
    "pair": (tuple[str, Decimal], ("a", Decimal(2))),
    "item": (
        Item,
        Item(
            "box",
            3,
            Decimal("4.50"),
            0.1,
            date(2026, 1, 1),
            datetime(2026, 1, 1, tzinfo=UTC),
            timedelta(minutes=5),
            ("a", "b"),
            [1, 2],
            ready=True,
            code=UUID(int=5),
        ),
    ),
}
RAW = {name: msgspec.json.decode(codec_for(t).encode(value)) for name, (t, value) in VALUES.items()}


def _reader(text: str) -> tuple[Expression | None, list[str]]:
    """Read an expression with the variables above; gives what forbids it, too."""
    tree = ast.parse(f"async def f():\n    return {text}\n")
    definition = tree.body[0]
    assert isinstance(definition, ast.AsyncFunctionDef)
    statement = definition.body[0]
    assert isinstance(statement, ast.Return)
    assert statement.value is not None
    code = compile(f"def f({', '.join(VALUES)}): ...", "<text>", "exec").co_consts[0]
    source = Source(
        FunctionType(code, {"Decimal": Decimal, "timedelta": timedelta}), definition, "text.py", text.splitlines()
    )
    body = Body(source=source, services={}, refusals=Refusals(), scope=Scope())
    for name, (t, _) in VALUES.items():
        body.scope.bind(name, type_of(t))
    typed = read_pure(body, statement.value)
    if body.refusals.findings:
        return None, [str(finding) for finding in body.refusals.findings]
    return python_value(typed), []


def _in_python(text: str) -> Any:
    names = {name: value for name, (_, value) in VALUES.items()}
    try:
        value = eval(text, {"Decimal": Decimal, "timedelta": timedelta, **names})
    except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, MemoryError):
        return ExpressionFailed
    if isinstance(value, float) and not math.isfinite(value):
        return ExpressionFailed
    return value


def _in_plan(expression: Expression) -> Any:
    form = from_json(msgspec.json.decode(msgspec.json.encode(expression)))
    assert form == from_json(expression)
    try:
        return evaluate(form, RAW.__getitem__)
    except ExpressionFailed:
        return ExpressionFailed


def _plain(value: Any) -> Any:
    """Give a value as the wire has it: tuples are lists there."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def assert_same(text: str) -> None:
    expression, refused = _reader(text)
    assert expression is not None, (text, refused)
    expected, found = _plain(_in_python(text)), _in_plan(expression)
    assert found == expected, (text, show(expression))
    assert type(found) is type(expected), (text, show(expression))
    if found is ExpressionFailed:
        assert is_partial(expression) or "span" in text or "day" in text or "at" in text, text


@pytest.mark.parametrize(
    "text",
    [
        "i + j * 2 - 3",
        ["-i // j", "i % j", "i / j", "-i", "+j"][0],
        "i / 0",
        "i % 0",
        "i // (j + 3)",
        "x * i + b",
        "d * 3 + e / 7",
        "d // 3",
        "d % e",
        "d / 0",
        "-d - e",
        "abs(e) + abs(j)",
        "round(d)",
        "round(d, 1)",
        "round(x)",
        "round(x, 1) + round(i)",
        "big + 1",
        "big == 1152921504606846977",
        "big * big",
        "s + t * 2",
        "s[0] + t[-1]",
        "s[9]",
        "len(s) + len(xs) + len(table) + len(pair)",
        "i < x < 9 > j",
        "j < i == 7 != 8",
        "d > 19 and d < Decimal('19.91')",
        "s in t or s in table or 'ea' in s",
        "i in xs or 3 not in xs",
        "n is None and m is not None",
        "n or m",
        "n and m",
        "xs or empty",
        "empty and xs",
        "d and s",
        "not n",
        "s if i > j else t",
        "[1, i, j][0]",
        "xs[i]",
        "xs[0] + ds[1]",
        "table['a'] + table[s]",
        "table['none']",
        "pair[1] + 1",
        "pair[-2]",
        "min(xs) + max(i, j)",
        "min(empty)",
        "max(empty, default=i)",
        "min(ds, default=d)",
        "sum(xs) + sum(ds) + sum(empty)",
        "sum(ds, d)",
        "sorted(ds)[0] + sorted(xs)[-1]",
        "[k * 2 for k in xs if k > 1 if k < 9]",
        "[a + d for a in ds]",
        "[[k for k in xs if k < l] for l in xs]",
        "sum(k * k for k in xs)",
        "any(k > 2 for k in xs) and all(ds)",
        "any(3 // k for k in [3, 0])",
        "any([3 // k for k in [3, 0]])",
        "day + timedelta(days=2)",
        "at - timedelta(hours=1) > at",
        "day - item.day",
        "span * 2 / 3",
        "span / timedelta(seconds=1)",
        "span // 2 % timedelta(hours=5)",
        "item.price * item.count + d",
        "item.sizes[0] + len(item.tags)",
        "item.note",
        "item.note is None",
        "item.code == item.code",
        "item.at < at",
        "item.ready + i",
        "f'{d:>8.1f}|{i:05d}|{s!r}|{x:.2e}|{t}|{n}|{b}|{day:%Y-%m}|{at}|{span}|{item.code}'",
        "str(d) + str(i) + str(day) + str(x) + str(b) + str(at)",
        "int(s)",
        "int('12') + int(x) + int(d)",
        "float('nan')",
        "float(d) + float(i) + float('1.5')",
        "bool(d) + bool(span)",
        "Decimal(i) + Decimal('2')",
        "Decimal(s)",
        "(i, (d, s))",
        "{'a': i, s: j}[s]",
        "'{' + s + '}'",
        "xs + [i] == [3, 1, 2, 7]",
        "xs * 2",
        "(1, i) < (1, 8)",
        "True + True",
    ],
)
def test_the_plan_gives_what_python_gives(text: str) -> None:
    assert_same(text)


# --- at random -------------------------------------------------------------------------------------------------------

LEAVES = {
    "int": "i j big item.count len(s) table[s] sum(xs) xs[0] item.sizes[1] 0 1 -7 12",
    "decimal": "d e item.price Decimal('0.30') Decimal(7) pair[1] sum(ds,e) max(ds)",
    "float": "x item.rate 0.1 1e300 -2.0",
    "str": "s t item.name 'é' item.tags[0] pair[0]",
    "bool": "b True item.ready m\tin\txs s\tin\ttable n\tis\tNone",
    "list": "xs empty item.sizes [1]",
    "span": "span item.span timedelta(days=1,seconds=3) (day-item.day) (at-item.at)",
}
"""The smallest expressions of each type (a tab is a space)."""

FORMS = {
    "int": [
        "({int} + {int})", "({int} - {int})", "({int} * {int})", "({int} // {int})", "({int} % {int})", "(-{int})",
        "abs({int})", "max({int}, {int})", "len({list})", "sum(k * {int} for k in {list} if k > {int})", "min({list})",
        "({list})[{int}]", "int({decimal})", "round({float})", "({int} if {bool} else {int})", "({span} // {span})",
        "({int} or {int})",
    ],
    "decimal": [
        "({decimal} + {decimal})", "({decimal} - {int})", "({decimal} * {decimal})", "({decimal} / {int})",
        "({decimal} // {decimal})", "({decimal} % {decimal})", "round({decimal}, 2)", "(-{decimal})",
        "sum([p * {decimal} for p in ds], e)", "min({decimal}, {decimal})",
    ],
    "float": [
        "({float} + {float})", "({float} * {int})", "({float} / {float})", "({float} // {int})", "({float} % {float})",
        "({int} / {int})", "float({decimal})", "abs({float})",
    ],
    "str": [
        "({str} + {str})", "({str} * {int})", "({str})[{int}]", "str({int})", "str({decimal})", "str({float})",
        "str({bool})", "str({span})",
        'f"""a{{{int}}}b{{{decimal}:>6}}c{{{float}!r}}"""', "({str} if {bool} else {str})",
        "({str} and {str})",
    ],
    "bool": [
        "({int} < {int})", "({int} >= {float})", "({int} == {decimal})", "({int} != {int})", "({str} <= {str})",
        "({str} == {str})", "({span} < {span})", "({list} == {list})", "({list} < {list})", "({bool} and {bool})",
        "({bool} or {bool})", "({decimal} < {int} <= {decimal})", "({int} in {list})", "({str} not in {str})",
        "(not {bool})", "(not {int})", "(not {str})", "(not {decimal})", "any(k > {int} for k in {list})",
        "all({int} // k for k in {list})", "bool({span})",
    ],
    "list": [
        "[{int}, {int}]", "[k * {int} for k in {list} if {bool}]", "({list} + {list})", "sorted({list})",
        "({list} or {list})",
    ],
    "span": [
        "({span} + {span})", "({span} - {span})", "({span} % {span})", "({span} * {int})", "({span} / {int})",
        "timedelta(hours={int})",
    ],
}  # fmt: skip
"""Larger ones, out of smaller ones of these types."""


@st.composite
def texts(draw: st.DrawFn, kind: str, depth: int) -> str:
    """Make an expression of a type as Python text, nested so deep at most."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(LEAVES[kind].split(" "))).replace("\t", " ")
    form = draw(st.sampled_from(FORMS[kind]))
    literal = form.replace("{{", "").replace("}}", "")
    for inner in re.findall(r"\{(\w+)", literal):
        form = form.replace(f"{{{inner}}}", draw(texts(inner, depth - 1)), 1)
    return form.replace("{{", "{").replace("}}", "}")


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(sorted(FORMS)).flatmap(lambda kind: texts(kind, 4)))
def test_random_expressions_give_the_same_in_python_and_in_the_plan(text: str) -> None:
    try:
        compile(text, "<text>", "eval")
    except SyntaxError:  # an f-string inside an f-string, before Python 3.12
        reject()
    expression, refused = _reader(text)
    if expression is None:
        # A timedelta of literals is built at import, and then fails at import.
        assert "cannot be built" in refused[0], (text, refused)
        return
    expected, found = _plain(_in_python(text)), _in_plan(expression)
    if found != expected and ExpressionFailed in (found, expected):
        # Out of the range of both, but not by the same bound: thousands of digits, a huge duration, infinity.
        assert any(large in text for large in ("timedelta", "span", "big", "1e300")), (text, found, expected)
        return
    assert found == expected, (text, show(expression))
    assert type(found) is type(expected), (text, show(expression))


# --- the language by itself ------------------------------------------------------------------------------------------


def _no_variable(name: Any) -> Any:
    raise KeyError(name)


def _value(expression: Expression) -> Any:
    return evaluate(expression, _no_variable)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (("mul", ("lit", "x"), ("lit", TEXT_LENGTH_MAX + 1)), "too long"),
        (("mul", ("lit", [1]), ("lit", LIST_LENGTH_MAX + 1)), "too long"),
        (("mul", ("lit", 1 << INTEGER_BITS_MAX - 1), ("lit", 2)), "too large"),
        (("mul", ("lit", 1e300), ("lit", 1e300)), "not finite"),
        (("as", "decimal", ("lit", "NaN")), "not finite"),
        (("call", "float", ("lit", "inf")), "not finite"),
        (("format", (("lit", 1), "", "99999999999")), "wider"),
        (("call", "sum", ("lit", [1] * (STEPS_MAX + 1))), "evaluation steps"),
        (("each", "k", ("lit", list(range(STEPS_MAX))), (), ("local", "k")), "evaluation steps"),
        (("field", ("lit", {}), "a"), "KeyError"),
        (("field", ("lit", None), "a", 1), "AttributeError"),
        (("index", ("lit", [1]), ("lit", 3)), "IndexError"),
        (("as", "date", ("lit", "tomorrow")), "ValidationError"),
        (("as", ("tuple", (None,)), ("lit", [1, 2])), "ValueError"),
        (("add", ("as", "decimal", ("lit", "1")), ("lit", 1.5)), "TypeError"),
        (("call", "open", ("lit", "x")), "no function"),
        (("pow", ("lit", 2), ("lit", 2)), "no operator"),
        (("compare", ("lit", 2), "like", ("lit", 2)), "no comparison"),
        (("as", "path", ("lit", 2)), "path"),
    ],
)
def test_an_expression_without_a_value_fails_and_says_why(expression: Expression, why: str) -> None:
    with pytest.raises(ExpressionFailed, match=why):
        _value(expression)


def test_deeply_nested_expressions_fail_and_do_not_end_the_process() -> None:
    expression: Expression = ("lit", 1)
    for _ in range(20_000):
        expression = ("neg", expression)

    with pytest.raises(ExpressionFailed):
        _value(expression)


def test_a_variable_that_is_not_known_is_no_value_of_the_expression() -> None:
    with pytest.raises(RuntimeError, match="'a'"):
        evaluate(("neg", ("var", "a")), _no_variable)


def test_decimals_are_calculated_alike_whatever_context_the_user_has() -> None:
    from decimal import localcontext

    third: Expression = ("div", ("as", "decimal", ("lit", "1")), ("lit", 3))
    with localcontext() as context:
        context.prec = 3
        value = _value(third)

    assert value == Decimal("0.3333333333333333333333333333")


def test_conversions_take_values_that_are_converted_already() -> None:
    inner: Expression = ("as", "decimal", ("lit", "1.10"))

    assert _value(("as", "decimal", inner)) == Decimal("1.10")
    assert _value(("as", ("list", "decimal"), ("list", inner, ("lit", "2")))) == [Decimal("1.10"), Decimal(2)]
    assert _value(("as", ("map", "date"), ("lit", {"a": "2026-01-01"}))) == {"a": date(2026, 1, 1)}
    assert _value(("as", ("optional", "date"), ("lit", None))) is None
    assert _value(("as", "bigint", ("lit", "9007199254740993"))) == 2**53 + 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("19.90"), b'"19.90"'),
        (datetime(2026, 1, 1, tzinfo=UTC), b'"2026-01-01T00:00:00Z"'),
        (date(2026, 1, 1), b'"2026-01-01"'),
        (timedelta(days=1), b'"P1D"'),
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'.encode()),
        (2**53 + 2, b'"9007199254740994"'),
        (b"ab", b'"YWI="'),
    ],
)
def test_results_are_encoded_as_the_codec_does(value: object, text: bytes) -> None:
    assert to_json_bytes(value) == text


def test_a_result_that_json_cannot_say_fails() -> None:
    with pytest.raises(ExpressionFailed):
        to_json_bytes(float("nan"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d + e * i", False),
        ("item.price", False),
        ("pair[1]", False),
        ("[k + 1 for k in xs]", False),
        ("d / 2", False),
        ("d / Decimal('2')", False),
        ("f'{d}'", False),
        ("xs[0]", True),
        ("table['a']", True),
        ("d / e", True),
        ("i % j", True),
        ("min(xs)", True),
        ("int(s)", True),
        ("[3 // k for k in xs]", True),
        ("Decimal(s)", True),
        ("Decimal(i)", False),
        ("s if 1 // i else t", True),
    ],
)
def test_an_expression_knows_whether_it_may_fail(text: str, *, expected: bool) -> None:
    expression, _ = _reader(text)

    assert expression is not None
    assert is_partial(expression) is expected


def test_variables_are_found_and_replaced() -> None:
    expression, _ = _reader("[item.count + k for k in xs if f'{s}' == t] + [{'a': i}['a'], (j if b else i)]")
    assert expression is not None
    names = {"item", "xs", "s", "t", "i", "j", "b"}
    assert variables(expression) == names

    numbered = substitute(expression, {name: ("var", number) for number, name in enumerate(sorted(names))})

    assert variables(numbered) == set(range(7))
    by_number = [RAW[name] for name in sorted(names)]
    assert evaluate(numbered, by_number.__getitem__) == evaluate(expression, RAW.__getitem__)
    assert substitute(expression, {"i": ("lit", 1)}) != expression


@pytest.mark.parametrize(
    "text",
    [
        "(i + j) * 2 - -i",
        "i - (j - 1)",
        "not (b and item.ready) or i < j <= 3",
        "s if b else t",
        'f"{d:.2f} {s!r}"',
        "[k * 2 for k in xs if k > 1]",
        "max(xs[0], len(s)) // 3",
        '{"a": i}["a"]',
        "(i, j)[0]",
        "s in table",
    ],
)
def test_expressions_are_shown_as_they_were_written(text: str) -> None:
    expression, _ = _reader(text)
    assert expression is not None

    assert show(expression) == text.replace("(i, j)", "[i, j]")


def test_reading_is_tried_on_every_variable() -> None:
    read: Callable[[str], Any] = RAW.__getitem__
    for name, (t, value) in VALUES.items():
        raw = evaluate(("var", name), read)
        assert codec_for(t).decode(msgspec.json.encode(raw)) == value
