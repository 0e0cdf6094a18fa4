"""How many bytes a value takes as JSON, by estimate: from the schemas of types, before there is any value.

A text counts as much as its `maxLength`, or 64 bytes where it has none; a list has `maxItems` elements, or 16 (what an
`each` gives: as many, or its limit where that is smaller); numbers, instants and the like have the length that they
mostly have; of alternatives the largest counts. What nothing is known of counts 64 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from minuet.plans.plan import Plan
from minuet.workflows.tree import Expression

Schema = Mapping[str, Any]

UNKNOWN_BYTES: Final = 64
ELEMENTS: Final = 16

_DEPTH_MAX: Final = 8  # a type may be a part of itself
_FORMATS: Final = {"date-time": 29, "date": 12, "time": 17, "duration": 16, "uuid": 38, "decimal": 16}
_PLAIN: Final = {"integer": 10, "number": 18, "boolean": 5, "null": 4}
_TEXTUAL: Final = frozenset(("string", "array"))


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a value: its schema, with the definitions that it refers to; or only its size."""

    schema: Schema = field(default_factory=dict)
    defs: Schema = field(default_factory=dict)
    size: int | None = None

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return self.size if self.size is not None else _bytes(self.schema, self.defs, 0)

    def part(self, name: str | None) -> Shape:
        """Give what is known of a field, or of the elements (None)."""
        for schema in _ways(self.schema, self.defs):
            if name is None:
                if "items" in schema or "prefixItems" in schema:
                    found = [Shape(s, self.defs) for s in (schema.get("items"), *schema.get("prefixItems", ())) if s]
                    return max(found, key=lambda shape: shape.bytes, default=Shape())
            elif name in schema.get("properties", {}):
                return Shape(schema["properties"][name], self.defs)
            if isinstance(more := schema.get("additionalProperties"), Mapping):
                return Shape(more, self.defs)
        return Shape()


class Estimate:
    """The sizes of the values of one plan; `schemas` are those of its tree."""

    def __init__(self, plan: Plan, schemas: Mapping[str, Schema]) -> None:
        self.plan = plan
        self.schemas = schemas
        self.results = {
            r.position: r.arguments[0][1] for r in plan.rules if r.kind == "mark" and r.about["label"] == "ok"
        }
        self.known: dict[int, Shape] = {}

    def bytes_of(self, v: int) -> int:
        """Give the size of a value, in bytes."""
        return self.shape(v).bytes

    def shape(self, v: int) -> Shape:
        """Give what is known of a value."""
        if v not in self.known:
            self.known[v] = Shape()  # while it is being asked for
            self.known[v] = self._shape(v)
        return self.known[v]

    def _shape(self, v: int) -> Shape:
        value = self.plan.values[v]
        match value.kind:
            case "input":
                return self._of("")
            case "out" if value.of[0] in self.results:
                return self.shape(self.results[value.of[0]])
            case "out":
                return self._of(value.of[0].removesuffix("!"))
            case "index":
                return Shape({"type": "integer"})
            case "item":
                return self.shape(value.of[0]).part(None)
            case "list":
                limit = min(self.plan.blocks[value.of[0]].limit, ELEMENTS)
                return Shape(size=2 + limit * (self.bytes_of(value.of[1]) + 1))
            case "left":
                return self.shape(value.of[1])
            case "head":
                return self.shape(value.of[0])
            case "phi":
                return max((self.shape(x) for _, x in value.of), key=lambda shape: shape.bytes)
        return self._expression(value.of[0], {})

    def _of(self, position: str) -> Shape:
        schema = self.schemas.get(position, {})
        return Shape(schema, schema.get("$defs", {}))

    def _expression(self, e: Expression, local: Mapping[str, Shape]) -> Shape:
        def size(x: Expression) -> int:
            return self._expression(x, local).bytes

        match e:
            case ("lit", value):
                return Shape(size=len(msgspec.json.encode(value)))
            case ("var", v):
                return self.shape(v)
            case ("local", name):
                return local.get(name, Shape())
            case ("field", record, name, *_):
                return self._expression(record, local).part(name)
            case ("index", base, ("lit", str(name))):
                return self._expression(base, local).part(name)
            case ("index", base, _):
                return self._expression(base, local).part(None)
            case ("as", _, inner):
                return self._expression(inner, local)
            case ("compare" | "not", *_) | ("call", "any" | "all" | "bool", *_):
                return Shape({"type": "boolean"})
            case ("and" | "or", *ways) | ("if", _, *ways) | ("call", "min" | "max", _, _, *ways):
                ways = list(e[2:]) if e[0] == "call" else ways
                return max((self._expression(x, local) for x in ways), key=lambda shape: shape.bytes)
            case ("call", "min" | "max", over):
                return self._expression(over, local).part(None)
            case ("call", "sorted", over):
                return self._expression(over, local)
            case ("call", "str", inner):
                return Shape(size=size(inner) + 2)
            case ("format", *parts):
                return Shape(size=2 + sum(len(p.encode()) if isinstance(p, str) else size(p[0]) for p in parts))
            case ("add", a, b) if not _TEXTUAL.isdisjoint(_types(self._expression(a, local))):
                return Shape(size=size(a) + size(b))
            case ("record" | "map", items):
                names = [2 + len(k) if isinstance(k, str) else size(k) for k, _ in items]
                return Shape(size=2 + sum(names) + sum(2 + size(x) for _, x in items))
            case ("list", *items):
                return Shape(size=2 + sum(1 + size(x) for x in items))
            case ("each", name, over, _, element):
                item = self._expression(over, local).part(None)
                return Shape(size=2 + ELEMENTS * (1 + self._expression(element, {**local, name: item}).bytes))
        return Shape({"type": "number"})


def _types(shape: Shape) -> set[str]:
    return {str(schema.get("type")) for schema in _ways(shape.schema, shape.defs)}


def _ways(schema: Schema, defs: Schema, depth: int = 0) -> list[Schema]:
    """Give the alternatives of a schema, without references."""
    if depth > _DEPTH_MAX:
        return []
    if "$ref" in schema:
        return _ways(defs.get(schema["$ref"].removeprefix("#/$defs/"), {}), defs, depth + 1)
    ways = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [found for way in ways for found in _ways(way, defs, depth + 1)] if ways else [schema]


def _bytes(schema: Schema, defs: Schema, depth: int) -> int:
    if depth > _DEPTH_MAX:
        return 0
    return max((_plain(way, defs, depth + 1) for way in _ways(schema, defs)), default=UNKNOWN_BYTES)


def _plain(schema: Schema, defs: Schema, depth: int) -> int:
    """Give the size of one alternative."""
    if "enum" in schema or "const" in schema:
        return max(len(msgspec.json.encode(x)) for x in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "string":
            if (longest := schema.get("maxLength")) is not None:
                return int(longest) + 2
            return _FORMATS.get(schema.get("format", ""), UNKNOWN_BYTES)
        case "array":
            fixed = schema.get("prefixItems", [])
            count = 0 if fixed else int(schema.get("maxItems", ELEMENTS))
            each = _bytes(schema["items"], defs, depth) if isinstance(schema.get("items"), Mapping) else UNKNOWN_BYTES
            return 2 + count * (each + 1) + sum(1 + _bytes(part, defs, depth) for part in fixed)
        case "object":
            size = 2
            for name, part in schema.get("properties", {}).items():
                size += len(name.encode()) + 4 + _bytes(part, defs, depth)
            if isinstance(more := schema.get("additionalProperties"), Mapping):
                size += int(schema.get("maxProperties", ELEMENTS)) * (20 + _bytes(more, defs, depth))
            return size
        case str(kind):
            return _PLAIN.get(kind, UNKNOWN_BYTES)
    return UNKNOWN_BYTES
