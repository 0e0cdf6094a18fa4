"""Guards and arguments: a small total language, as nested tuples with a JSON form.

Variables hold raw JSON values. Scalars that JSON lacks are converted where they are read, by an `as` node that
the reader inserts from static types; results go back to JSON by `to_json_bytes`. The nodes:

    ("lit", json)  ("var", name)  ("local", name)              a literal, a variable, one of a comprehension
    ("field", e, wire)  ("field", e, wire, default)            a field of a record; the default where it is absent
    ("index", e, e)  ("as", T, e)                              an element; a raw value as one of type T
    ("neg" | "pos" | "not", e)
    ("add" | "sub" | "mul" | "div" | "floordiv" | "mod", a, b)
    ("compare", e0, op, e1, op, e2, …)                         lt le gt ge eq ne in notin is isnot
    ("and" | "or", e, …)  ("if", condition, then, otherwise)
    ("format", part, …)                                        a part is text, or (e, conversion, spec)
    ("call", function, e, …)                                   a name in FUNCTIONS
    ("record", ((wire, e), …))  ("list", e, …)  ("map", ((key, value), …))
    ("each", local, iterable, (condition, …), element)         a comprehension; `any` and `all` read it lazily

    T is one of SCALARS, or ("list", T), ("map", T), ("optional", T), ("tuple", (T or None, …))

Evaluation gives what Python gives, under a fixed decimal context, or `ExpressionFailed`: never anything else.
One function walks the nodes; nothing is parsed, looked up by name in a module, or called that is not listed here.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Any, Final

import msgspec

from minuet.contracts.codec import codec_for
from minuet.errors import InvalidPayload

Expression = tuple[Any, ...]

STEPS_MAX: Final = 10_000
TEXT_LENGTH_MAX: Final = 1_000_000
LIST_LENGTH_MAX: Final = 100_000
INTEGER_BITS_MAX: Final = 4_096
FORMAT_WIDTH_MAX: Final = 1_000

FUNCTIONS: Final = frozenset(
    ("len", "min", "max", "sum", "abs", "round", "sorted", "any", "all", "str", "int", "float", "bool")
)
SCALARS: Final[Mapping[str, type]] = {
    "decimal": Decimal,
    "datetime": dt.datetime,
    "date": dt.date,
    "time": dt.time,
    "duration": dt.timedelta,
    "uuid": uuid.UUID,
    "bytes": bytes,
    "bigint": int,
}

_DECIMALS: Final = Context(prec=28, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
_FAILURES: Final = (
    ArithmeticError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    RecursionError,
    msgspec.MsgspecError,
)


class ExpressionFailed(Exception):
    """An expression has no value: a missing element, a division by zero, a limit. The text says which."""


def evaluate(expression: Expression, read: Callable[[Any], Any]) -> Any:
    """Give the value of an expression, where `read` gives the raw JSON value of a variable.

    The result may hold decimals, instants and the like; `to_json_bytes` makes it raw again.

    Raises:
        ExpressionFailed: it has no value; that is the same for everybody who evaluates it.
    """
    if expression[0] == "var":
        return read(expression[1])
    try:
        with localcontext(_DECIMALS):
            return _Evaluation(read).value(expression, {})
    except _FAILURES as error:
        raise ExpressionFailed(f"{type(error).__name__}: {error}") from None


def to_json_bytes(value: Any) -> bytes:
    """Encode a result as the codec encodes payloads: a decimal as a string, an instant as in RFC 3339.

    Raises:
        ExpressionFailed: the value has no form in JSON.
    """
    try:
        return codec_for(Any).encode(value)
    except InvalidPayload as error:
        raise ExpressionFailed(error.message) from None


def is_partial(expression: Expression) -> bool:
    """Tell whether the expression may fail on values of the types that it was read for (limits aside)."""
    match expression:
        case ("index", ("as", ("tuple", parts), base), ("lit", int(place))):
            return not -len(parts) <= place < len(parts) or is_partial(base)
        case ("index", _, _):
            return True
        case ("as", _, ("call", "str", _)):
            return True
        case ("div" | "floordiv" | "mod", dividend, divisor):
            return is_partial(dividend) or not _is_nonzero(divisor)
        case ("call", "int" | "float", _) | ("call", "min" | "max", _):
            return True
    return any(is_partial(part) for part in parts_of(expression))


def variables(expression: Expression) -> set[Any]:
    """Give the variables that an expression reads."""
    if expression[0] == "var":
        return {expression[1]}
    return set().union(*(variables(part) for part in parts_of(expression)))


def substitute(expression: Expression, mapping: Mapping[Any, Expression]) -> Expression:
    """Put another expression in the place of each variable that is in the mapping."""
    if expression[0] == "var":
        return mapping.get(expression[1], expression)
    return _rebuilt(expression, lambda part: substitute(part, mapping))


def from_json(form: Sequence[Any]) -> Expression:
    """Give an expression as nested tuples from its JSON form, where all of them are arrays."""
    return _rebuilt(form, from_json)


def parts_of(e: Sequence[Any]) -> list[Any]:
    """Give the expressions directly inside an expression."""
    found: list[Any] = []

    def keep(part: Any) -> Any:
        found.append(part)
        return part

    _rebuilt(e, keep)
    return found


def show(expression: Expression) -> str:
    """Give an expression as readable text, much as it stood in the source."""
    return _shown(expression, 0)


class _Evaluation:
    """One evaluation: where variables are read, and how many steps are left."""

    __slots__ = ("left", "read")

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read
        self.left = STEPS_MAX

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise ExpressionFailed(f"more than {STEPS_MAX} evaluation steps")

    def value(self, e: Expression, local: dict[str, Any]) -> Any:
        self.spend(1)
        match e[0]:
            case "var":
                return self.variable(e[1])
            case "lit":
                return e[1]
            case "field":
                record = self.value(e[1], local)
                return record[e[2]] if len(e) == 3 else record.get(e[2], e[3])
            case "as":
                return self.converted(e[1], self.value(e[2], local))
            case "compare":
                return self.compared(e, local)
            case "and":
                return self.first(e, local, is_true=False)
            case "or":
                return self.first(e, local, is_true=True)
            case "not":
                return not self.value(e[1], local)
            case "local":
                return local[e[1]]
            case "index":
                return self.value(e[1], local)[self.value(e[2], local)]
            case "if":
                return self.value(e[2] if self.value(e[1], local) else e[3], local)
            case "record":
                return {wire: self.value(part, local) for wire, part in e[1]}
            case "list":
                return [self.value(part, local) for part in e[1:]]
            case "map":
                return {self.value(key, local): self.value(part, local) for key, part in e[1]}
            case "each":
                return list(self.each(e, local))
            case "format":
                return _bounded("".join(p if isinstance(p, str) else self.formatted(p, local) for p in e[1:]))
            case "call":
                return self.called(e[1], e[2:], local)
            case "neg":
                return -self.value(e[1], local)
            case "pos":
                return +self.value(e[1], local)
            case operator:
                return _calculated(operator, self.value(e[1], local), self.value(e[2], local))

    def variable(self, name: Any) -> Any:
        try:
            return self.read(name)
        except LookupError as error:
            # A caller that does not know a variable is our own mistake, and no value of the expression.
            raise RuntimeError(f"variable {name!r} is read where it is not known") from error

    def first(self, e: Expression, local: dict[str, Any], *, is_true: bool) -> Any:
        """Give the first value that decides `and` or `or`, else the last one."""
        for part in e[1:-1]:
            if bool(value := self.value(part, local)) is is_true:
                return value
        return self.value(e[-1], local)

    def compared(self, e: Expression, local: dict[str, Any]) -> bool:
        left = self.value(e[1], local)
        for operator, part in zip(e[2::2], e[3::2], strict=True):
            right = self.value(part, local)
            if operator in ("in", "notin"):
                self.spend(len(right) if isinstance(right, list) else 0)
            if not _holds(operator, left, right):
                return False
            left = right
        return True

    def each(self, e: Expression, local: dict[str, Any]) -> Iterator[Any]:
        _, name, iterable, conditions, element = e
        for item in self.value(iterable, local):
            inner = {**local, name: item}
            if all(self.value(condition, inner) for condition in conditions):
                yield self.value(element, inner)

    def formatted(self, part: Expression, local: dict[str, Any]) -> str:
        expression, conversion, spec = part
        if is_wide(spec):
            raise ExpressionFailed(f"the format {spec!r} is wider than {FORMAT_WIDTH_MAX}")
        value = self.value(expression, local)
        match conversion:
            case "r":
                value = repr(value)
            case "s":
                value = str(value)
            case "a":
                value = ascii(value)
        return format(value, spec)

    def called(self, function: str, arguments: Sequence[Expression], local: dict[str, Any]) -> Any:
        if function in ("any", "all") and arguments[0][0] == "each":
            lazy = self.each(arguments[0], local)
            return any(lazy) if function == "any" else all(lazy)
        values = [self.value(argument, local) for argument in arguments]
        for value in values:
            if isinstance(value, list):
                self.spend(len(value))
        match function:
            case "len":
                return len(values[0])
            case "min":
                return min(*values)
            case "max":
                return max(*values)
            case "sum":
                return _bounded(sum(*values))
            case "abs":
                return abs(values[0])
            case "round":
                return round(*values)
            case "sorted":
                return sorted(values[0])
            case "any":
                return any(values[0])
            case "all":
                return all(values[0])
            case "str":
                return str(values[0])
            case "int":
                return _bounded(int(values[0]))
            case "float":
                return _bounded(float(values[0]))
            case "bool":
                return bool(values[0])
        raise ExpressionFailed(f"{function} is no function of expressions")

    def converted(self, kind: Any, value: Any) -> Any:
        self.spend(1)
        match kind:
            case str():
                target = SCALARS[kind]
                # A datetime is a date too, but not where a date is asked for.
                if type(value) is target:
                    return value
                return _bounded(msgspec.convert(value, target, strict=kind != "bigint"))
            case ("optional", inner):
                return None if value is None else self.converted(inner, value)
            case ("list", inner):
                return [self.converted(inner, item) for item in value]
            case ("map", inner):
                return {key: self.converted(inner, item) for key, item in value.items()}
            case ("tuple", kinds):
                pairs = zip(kinds, value, strict=True)
                return [item if inner is None else self.converted(inner, item) for inner, item in pairs]
        raise ExpressionFailed(f"{kind!r} is no type of expressions")


def _calculated(operator: str, a: Any, b: Any) -> Any:
    match operator:
        case "add":
            return _bounded(a + b)
        case "sub":
            return _bounded(a - b)
        case "mul":
            _refuse_repetition(a, b)
            return _bounded(a * b)
        case "div":
            return _bounded(a / b)
        case "floordiv":
            return _bounded(a // b)
        case "mod":
            if isinstance(a, str):
                raise ExpressionFailed("text is not formatted with %")
            return _bounded(a % b)
    raise ExpressionFailed(f"{operator} is no operator of expressions")


def _holds(operator: str, a: Any, b: Any) -> bool:
    match operator:
        case "eq":
            return bool(a == b)
        case "ne":
            return bool(a != b)
        case "lt":
            return bool(a < b)
        case "le":
            return bool(a <= b)
        case "gt":
            return bool(a > b)
        case "ge":
            return bool(a >= b)
        case "in":
            return a in b
        case "notin":
            return a not in b
        case "is":
            return a is b
        case "isnot":
            return a is not b
    raise ExpressionFailed(f"{operator} is no comparison of expressions")


def is_wide(spec: str) -> bool:
    """Tell whether a format asks for more characters than an expression may give at once."""
    return any(int(number[:9]) > FORMAT_WIDTH_MAX for number in re.findall(r"\d+", spec))


def _refuse_repetition(a: Any, b: Any) -> None:
    """Refuse to repeat text or a list beyond the limits before it takes the memory."""
    for sequence, times in ((a, b), (b, a)):
        if not isinstance(sequence, str | bytes | list) or not isinstance(times, int):
            continue
        if len(sequence) * times > (LIST_LENGTH_MAX if isinstance(sequence, list) else TEXT_LENGTH_MAX):
            raise ExpressionFailed("a value is too long")


def _bounded(value: Any) -> Any:
    """Give the value back, if it is within the limits and JSON can say it."""
    match value:
        case str() | bytes():
            fits = len(value) <= TEXT_LENGTH_MAX
        case list():
            fits = len(value) <= LIST_LENGTH_MAX
        case int():
            fits = value.bit_length() <= INTEGER_BITS_MAX
        case float():
            fits = math.isfinite(value)
        case Decimal():
            fits = value.is_finite()
        case _:
            fits = True
    if not fits:
        raise ExpressionFailed("a value is too long, too large or not finite")
    return value


def _is_nonzero(divisor: Expression) -> bool:
    match divisor:
        case ("lit", int() | float() as number):
            return number != 0
        case ("as", "decimal", ("lit", str(text))):
            return bool(Decimal(text))
        case ("as", "duration", ("lit", _)):
            return bool(evaluate(divisor, lambda _: None))
    return False


def _rebuilt(e: Sequence[Any], change: Callable[[Any], Any]) -> Expression:
    """Give the same node with each expression directly inside it changed."""
    match e:
        case ("lit" | "var" | "local", _):
            return tuple(e)
        case ("field", record, *rest):
            return ("field", change(record), *rest)
        case ("as", kind, value):
            return ("as", _frozen(kind), change(value))
        case ("compare", first, *rest):
            return ("compare", change(first), *(x if isinstance(x, str) else change(x) for x in rest))
        case ("format", *parts):
            return ("format", *(p if isinstance(p, str) else (change(p[0]), p[1], p[2]) for p in parts))
        case ("call", function, *arguments):
            return ("call", function, *map(change, arguments))
        case ("record", fields):
            return ("record", tuple((wire, change(value)) for wire, value in fields))
        case ("map", items):
            return ("map", tuple((change(key), change(value)) for key, value in items))
        case ("each", name, iterable, conditions, element):
            return ("each", name, change(iterable), tuple(map(change, conditions)), change(element))
    return (e[0], *map(change, e[1:]))


def _frozen(kind: Any) -> Any:
    return tuple(map(_frozen, kind)) if isinstance(kind, list | tuple) else kind


_SIGNS: Final = {
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "in": "in", "notin": "not in", "is": "is", "isnot": "is not",
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%",
}  # fmt: skip


def _shown(e: Expression, binding: int) -> str:
    """Show a node; `binding` is how strongly what stands around it binds (Python's order)."""
    text, own = _text(e)
    return f"({text})" if own < binding else text


def _text(e: Expression) -> tuple[str, int]:
    match e:
        case ("lit", value):
            return msgspec.json.encode(value).decode(), 9
        case ("var" | "local", name):
            return str(name), 9
        case ("field", record, wire, *_):
            return f"{_shown(record, 9)}.{wire}", 9
        case ("index", value, place):
            return f"{_shown(value, 9)}[{show(place)}]", 9
        case ("as", _, value):
            return _text(value)
        case ("neg" | "pos" as sign, value):
            return ("-" if sign == "neg" else "+") + _shown(value, 8), 8
        case ("not", value):
            return f"not {_shown(value, 4)}", 4
        case ("add" | "sub" as sign, a, b):
            return f"{_shown(a, 6)} {_SIGNS[sign]} {_shown(b, 7)}", 6
        case ("mul" | "div" | "floordiv" | "mod" as sign, a, b):
            return f"{_shown(a, 7)} {_SIGNS[sign]} {_shown(b, 8)}", 7
        case ("compare", *parts):
            return " ".join(_SIGNS[p] if isinstance(p, str) else _shown(p, 6) for p in parts), 5
        case ("and" | "or" as word, *parts):
            own = 3 if word == "and" else 2
            return f" {word} ".join(_shown(part, own + 1) for part in parts), own
        case ("if", condition, then, otherwise):
            return f"{_shown(then, 2)} if {_shown(condition, 2)} else {_shown(otherwise, 1)}", 1
        case ("format", *parts):
            return 'f"' + "".join(p if isinstance(p, str) else _placeholder(p) for p in parts) + '"', 9
        case ("call", function, *arguments):
            return f"{function}({', '.join(map(show, arguments))})", 9
        case ("record", fields):
            return "{" + ", ".join(f"{wire}: {show(value)}" for wire, value in fields) + "}", 9
        case ("list", *items):
            return f"[{', '.join(map(show, items))}]", 9
        case ("map", items):
            return "{" + ", ".join(f"{show(key)}: {show(value)}" for key, value in items) + "}", 9
        case ("each", name, iterable, conditions, element):
            filters = "".join(f" if {_shown(c, 2)}" for c in conditions)
            return f"[{show(element)} for {name} in {_shown(iterable, 2)}{filters}]", 9
    return str(e), 0


def _placeholder(part: Expression) -> str:
    expression, conversion, spec = part
    return "{" + show(expression) + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
