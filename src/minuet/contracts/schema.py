"""A payload type as JSON Schema 2020-12, in one canonical form whatever library the type is of, and its digests.

The top is inlined; `$defs` are named by type; `required`, `enum` and `anyOf` are sorted; what a library makes up
(titles, the type beside an enum, `const`) is dropped. A default that a factory makes is no part of the schema, and an
empty list or object counts as one: libraries differ in whether they show it.

Two digests: the *shape* is over the keywords that decide what is valid, and the defaults. It has no names of types:
references are put in place, and a reference back to what encloses it is a number of levels. The *document* is over
everything, descriptions included.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import NODEFAULT
from msgspec import inspect as describe

from minuet.contracts import pydantic_model
from minuet.contracts.canonical import canonical_json, digest
from minuet.errors import DeclarationError

Schema = dict[str, Any]

_ANNOTATIONS = frozenset(
    ("title", "description", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "discriminator")
)
_REF = "#/$defs/"
_NAMED = (describe.StructType, describe.DataclassType, describe.TypedDictType, describe.NamedTupleType)
_STRING_FORMATS: dict[Any, str] = {
    describe.DateTimeType: "date-time",
    describe.DateType: "date",
    describe.TimeType: "time",
    describe.TimeDeltaType: "duration",
    describe.UUIDType: "uuid",
    describe.DecimalType: "decimal",
}
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}


def schema_of(type_: Any) -> Schema:
    """Give the JSON Schema of a type, in canonical form.

    Raises:
        DeclarationError: JSON cannot carry the type.
    """
    return copy.deepcopy(_remembered(type_)) if _hashable(type_) else _make(type_)


def shape_digest(type_: Any) -> str:
    """Give the digest of what is valid: equal for a dataclass, a Struct and a model of the same fields."""
    schema = schema_of(type_)
    defs = schema.pop("$defs", {})
    return digest(_shape(schema, defs, ()))


def document_digest(type_: Any) -> str:
    """Give the digest of the whole schema, with descriptions and examples."""
    return digest(schema_of(type_))


@functools.lru_cache(maxsize=4096)
def _remembered(type_: Any) -> Schema:
    return _make(type_)


def _hashable(type_: Any) -> bool:
    try:
        hash(type_)
    except TypeError:
        return False
    return True


def _make(type_: Any) -> Schema:
    try:
        info = describe.type_info(type_)
    except (TypeError, ValueError, NameError, AttributeError) as error:
        raise DeclarationError(f"{type_!r} has no JSON Schema: {error}", remedy="Use types that JSON knows") from error
    writer = _Writer()
    top = _canonical(writer.write(describe.CustomType(type_) if pydantic_model.is_model(type_) else info))
    defs = {name: _canonical(d) for name, d in writer.defs.items()}
    if set(top) == {"$ref"}:  # the top is inlined
        top = copy.deepcopy(defs[top["$ref"].removeprefix(_REF)])
    used = _used(top, defs)
    return {**top, "$defs": {n: defs[n] for n in sorted(used)}} if used else top


class _Writer:
    """Writes schemas from msgspec's description of types; records go to `defs`, and are referred to."""

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = {}
        self.names: dict[Any, str] = {}

    def write(self, info: Any) -> Schema:
        """Write the schema of one type."""
        match info:
            case describe.Metadata():
                extra = {k: v for k, v in (info.extra_json_schema or {}).items() if k != "$defs"}
                return {**self.write(info.type), **extra}
            case describe.AnyType() | describe.RawType():
                return {}
            case describe.NoneType():
                return {"type": "null"}
            case describe.BoolType():
                return {"type": "boolean"}
            case describe.IntType():
                return {"type": "integer", **_bounds(info)}
            case describe.FloatType():
                return {"type": "number", **_bounds(info)}
            case describe.StrType():
                return {"type": "string", **_bounds(info), **_lengths(info, "Length")}
            case describe.BytesType() | describe.ByteArrayType() | describe.MemoryViewType():
                return {"type": "string", "contentEncoding": "base64"}
            case describe.EnumType():
                return {"enum": [member.value for member in info.cls]}
            case describe.LiteralType():
                return {"enum": list(info.values)}
            case describe.UnionType():
                return {"anyOf": [self.write(t) for t in info.types]}
            case describe.SetType() | describe.FrozenSetType():
                return self._array(info, uniqueItems=True)
            case describe.CollectionType():
                return self._array(info)
            case describe.TupleType():
                return _tuple([self.write(t) for t in info.item_types])
            case describe.DictType():
                return self._map(info)
            case describe.CustomType() if pydantic_model.is_model(info.cls):
                return self._model(info.cls)
        if isinstance(info, _NAMED):
            return self._named(info)
        if type(info) in _STRING_FORMATS:
            return {"type": "string", "format": _STRING_FORMATS[type(info)]}
        raise DeclarationError(
            f"{getattr(info, 'cls', info)!r} has no JSON Schema",
            remedy="Use a dataclass, a msgspec.Struct, a Pydantic model, or plain types",
        )

    def _array(self, info: Any, **more: Any) -> Schema:
        return {"type": "array", "items": self.write(info.item_type), **_lengths(info, "Items"), **more}

    def _map(self, info: Any) -> Schema:
        schema = {"type": "object", "additionalProperties": self.write(info.value_type), **_lengths(info, "Properties")}
        names = self.write(info.key_type)
        if names not in ({"type": "string"}, {"type": "integer"}, {}):
            schema["propertyNames"] = names
        return schema

    def _named(self, info: Any) -> Schema:
        known = self.names.get(info.cls)
        if known is None:
            known = self._name(info.cls)
            self.defs[known] = {}  # what refers to itself finds its name
            self.defs[known] = self._record(info)
        return {"$ref": _REF + known}

    def _name(self, cls: Any) -> str:
        name = _free(re.sub(r"\W+", "_", getattr(cls, "__name__", str(cls))).strip("_"), self.defs)
        self.names[cls] = name
        return name

    def _record(self, info: Any) -> Schema:
        described = _description(info.cls)
        if isinstance(info, describe.NamedTupleType) or getattr(info, "array_like", False):
            tag = [] if getattr(info, "tag_field", None) is None else [{"enum": [info.tag]}]
            needed = len(tag) + sum(f.required for f in info.fields)
            return {**_tuple(tag + [self.write(f.type) for f in info.fields], at_least=needed), **described}
        properties, required = dict[str, Schema](), list[str]()
        if getattr(info, "tag_field", None) is not None:
            properties[info.tag_field] = {"enum": [info.tag]}
            required.append(info.tag_field)
        for f in info.fields:
            name = getattr(f, "encode_name", f.name)
            properties[name] = self.write(f.type)
            if f.required:
                required.append(name)
            elif getattr(f, "default", NODEFAULT) is not NODEFAULT:
                properties[name] = {**properties[name], "default": _default(f.default)}
        schema: Schema = {"type": "object", "properties": properties, "required": required, **described}
        if getattr(info, "forbid_unknown_fields", False):
            schema["additionalProperties"] = False
        return schema

    def _model(self, cls: Any) -> Schema:
        """Take a model's schema from Pydantic, and its definitions among ours."""
        if cls not in self.names:
            schema = pydantic_model.json_schema(cls)
            theirs: dict[str, Schema] = schema.pop("$defs", {})
            if set(schema) == {"$ref"}:
                top = schema["$ref"].removeprefix(_REF)
            else:
                top = _free(cls.__name__, theirs)
                theirs = {top: schema, **theirs}
            renamed = dict[str, str]()
            for name in theirs:
                renamed[name] = _free(name, {*self.defs, *renamed.values()})
            for name, definition in theirs.items():
                self.defs[renamed[name]] = _renamed(definition, renamed, name)
            self.names[cls] = renamed[top]
        return {"$ref": _REF + self.names[cls]}


def _free(name: str, taken: Collection[str]) -> str:
    """Give a name that is not taken: the first `Line`, then `Line_2`."""
    free, n = name, 1
    while free in taken:
        n += 1
        free = f"{name}_{n}"
    return free


def _renamed(node: Any, names: dict[str, str], title: str | None = None) -> Any:
    """Rename references, and drop the title that is only the name of the class."""
    if isinstance(node, list):
        return [_renamed(n, names) for n in node]
    if not isinstance(node, dict):
        return node
    out = {k: _renamed(v, names) for k, v in node.items() if not (k == "title" and v == title)}
    ref = out.get("$ref")
    if isinstance(ref, str):
        out["$ref"] = _REF + names[ref.removeprefix(_REF)]
    return out


def _bounds(info: Any) -> Schema:
    return {word: value for name, word in _BOUNDS.items() if (value := getattr(info, name, None)) is not None}


def _lengths(info: Any, of: str) -> Schema:
    found = {"min" + of: info.min_length, "max" + of: info.max_length}
    return {k: v for k, v in found.items() if v is not None}


def _tuple(items: list[Schema], at_least: int | None = None) -> Schema:
    least = len(items) if at_least is None else at_least
    return {"type": "array", "prefixItems": items, "minItems": least, "maxItems": len(items)}


def _default(value: Any) -> Any:
    def hook(model: Any) -> Any:
        return msgspec.json.decode(pydantic_model.encode(model))

    return msgspec.to_builtins(value, enc_hook=hook, str_keys=True)


def _description(cls: Any) -> Schema:
    """Give a class's own docstring, but not the one that `dataclass` makes."""
    text = vars(cls).get("__doc__") if isinstance(cls, type) else None
    if not text or text.startswith(f"{cls.__name__}("):
        return {}
    return {"description": inspect.cleandoc(text)}


def _canonical(node: Any) -> Any:
    """Bring a schema, and all schemas inside it, into canonical form."""
    if not isinstance(node, dict):
        return node
    out: Schema = {}
    for word, value in node.items():
        match word:
            case "properties" | "patternProperties" | "$defs":
                out[word] = {name: _canonical(v) for name, v in value.items()}
            case "items" | "additionalProperties" | "propertyNames" | "not" | "contains":
                out[word] = _canonical(value)
            case "prefixItems" | "anyOf" | "oneOf" | "allOf":
                out[word] = [_canonical(v) for v in value]
            case _:
                out[word] = value
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if "enum" in out:
        out.pop("type", None)
        out["enum"] = _sorted(out["enum"])
    if "required" in out:
        out["required"] = sorted(out["required"])
    if out.get("required") == []:
        del out["required"]
    if out.get("default") in ([], {}):
        del out["default"]
    if out.get("additionalProperties") in (True, {}) and "additionalProperties" in out:
        del out["additionalProperties"]
    if out.get("items") == {}:
        del out["items"]
    if "oneOf" in out and "discriminator" in out:
        out["anyOf"] = out.pop("oneOf")
        del out["discriminator"]
    if len(out.get("allOf", ())) == 1 and "$ref" not in out:
        out = {**out.pop("allOf")[0], **out}
    if "anyOf" in out:
        members = [m for a in out.pop("anyOf") for m in (a["anyOf"] if set(a) == {"anyOf"} else [a])]
        members = _sorted(members)
        out = {**members[0], **out} if len(members) == 1 else {**out, "anyOf": members}
    return {k: out[k] for k in sorted(out)}


def _sorted(values: list[Any]) -> list[Any]:
    """Sort by canonical JSON, each value once."""
    by_text = {canonical_json(v): v for v in values}
    return [by_text[text] for text in sorted(by_text)]


def _used(top: Schema, defs: dict[str, Schema]) -> set[str]:
    """Give the names of the definitions that can be reached."""
    used, todo = set[str](), list[Any]([top])
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            ref = node.get("$ref")
            if isinstance(ref, str) and (name := ref.removeprefix(_REF)) not in used:
                used.add(name)
                todo.append(defs[name])
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return used


def _shape(node: Any, defs: dict[str, Schema], inside: tuple[str, ...]) -> Any:
    """Give what decides validity, with references put in place."""
    if isinstance(node, list):
        return [_shape(n, defs, inside) for n in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        name = node["$ref"].removeprefix(_REF)
        more = {k: _shape(v, defs, inside) for k, v in node.items() if k != "$ref" and k not in _ANNOTATIONS}
        if name in inside:
            return {"$up": inside[::-1].index(name) + 1, **more}
        return {**_shape(defs[name], defs, (*inside, name)), **more}
    out: Schema = {}
    for k, v in node.items():
        if k in ("properties", "patternProperties"):
            out[k] = {name: _shape(s, defs, inside) for name, s in v.items()}
        elif k in ("default", "enum"):
            out[k] = v
        elif k not in _ANNOTATIONS:
            out[k] = _shape(v, defs, inside)
    if "anyOf" in out:  # their order was that of names, which are gone
        out["anyOf"] = _sorted(out["anyOf"])
    return out
