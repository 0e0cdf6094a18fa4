from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pydantic
import pytest

from minuet.contracts.schema import document_digest, schema_of, shape_digest
from minuet.errors import DeclarationError


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Line:
    """A line of an order."""

    sku: str
    quantity: Annotated[int, msgspec.Meta(ge=1)] = 1


@dataclass(frozen=True)
class Order:
    id: str
    total: Decimal
    at: datetime
    lines: tuple[Line, ...]
    size: Size = Size.SMALL
    method: Literal["card", "voucher"] = "card"
    note: str | None = None
    tags: list[str] = field(default_factory=list)


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


class LineModel(pydantic.BaseModel):
    sku: str
    quantity: int = pydantic.Field(1, ge=1)


class OrderModel(pydantic.BaseModel):
    """Somebody else's words."""

    id: str
    total: Decimal
    at: datetime
    lines: tuple[LineModel, ...]
    size: Size = Size.SMALL
    method: Literal["card", "voucher"] = "card"
    note: str | None = None
    tags: list[str] = []


class TreeModel(pydantic.BaseModel):
    value: int
    children: list[TreeModel] = []


def test_the_form_is_canonical() -> None:
    assert schema_of(Order) == {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "total": {"type": "string", "format": "decimal"},
            "at": {"type": "string", "format": "date-time"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
            "size": {"enum": ["l", "s"], "default": "s"},
            "method": {"enum": ["card", "voucher"], "default": "card"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}], "default": None},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["at", "id", "lines", "total"],
        "$defs": {
            "Line": {
                "type": "object",
                "description": "A line of an order.",
                "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1, "default": 1}},
                "required": ["sku"],
            }
        },
    }


def test_a_schema_that_was_given_out_may_be_changed() -> None:
    schema_of(Order)["properties"].clear()
    assert schema_of(Order)["properties"]


def test_shapes_do_not_depend_on_the_library_or_on_names() -> None:
    assert shape_digest(Order) == shape_digest(OrderModel)
    assert shape_digest(Tree) == shape_digest(TreeModel)
    assert shape_digest(list[Line]) == shape_digest(list[LineModel])


def test_documents_do() -> None:
    assert document_digest(Order) != document_digest(OrderModel)
    assert document_digest(Line) != document_digest(LineModel)


def test_a_shape_changes_with_what_is_valid() -> None:
    def shape(*fields: Any) -> str:
        return shape_digest(msgspec.defstruct("Order", fields))

    first = shape(("id", str))
    different = [
        shape(("id", int)),
        shape(("key", str)),
        shape(("id", str), ("more", int)),
        shape(("id", str, "")),
        shape(("id", str, "x")),
        shape(("id", str | None)),
        shape(("id", Annotated[str, msgspec.Meta(max_length=5)])),
        shape(("id", datetime)),
        shape(("id", Decimal)),
        shape(("id", list[str])),
        shape(("id", Literal["a"])),
    ]
    assert len({first, *different}) == len(different) + 1


def test_a_shape_does_not_change_with_descriptions() -> None:
    plain = msgspec.defstruct("Order", [("id", str)])
    told = msgspec.defstruct("Bill", [("id", Annotated[str, msgspec.Meta(description="its name", examples=["o-1"])])])
    assert shape_digest(plain) == shape_digest(told)
    assert document_digest(plain) != document_digest(told)


def test_two_classes_of_one_name_are_two_definitions() -> None:
    first = msgspec.defstruct("Item", [("a", int)])
    second = msgspec.defstruct("Item", [("b", str)])
    both = msgspec.defstruct("Both", [("x", first), ("y", second)])
    defs = schema_of(both)["$defs"]
    assert sorted(defs) == ["Item", "Item_2"]
    assert schema_of(both)["properties"] == {"x": {"$ref": "#/$defs/Item"}, "y": {"$ref": "#/$defs/Item_2"}}


def test_two_models_of_one_name_are_two_definitions() -> None:
    def model(field: str) -> Any:
        return pydantic.create_model("Item", **{field: (int, ...)})  # type: ignore[call-overload]

    both = msgspec.defstruct("Both", [("x", model("a")), ("y", model("b"))])
    schema = schema_of(both)
    names = [schema["properties"][f]["$ref"].removeprefix("#/$defs/") for f in ("x", "y")]
    assert [list(schema["$defs"][n]["properties"]) for n in names] == [["a"], ["b"]]


def test_what_refers_to_itself_ends() -> None:
    assert schema_of(Tree)["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_tuples_and_named_tuples_are_arrays_of_a_length() -> None:
    class Corner(NamedTuple):
        x: int
        y: str = ""

    assert schema_of(tuple[int, str]) == {
        "type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2,
    }  # fmt: skip
    assert schema_of(Corner)["minItems"] == 1


def test_a_union_is_told_by_its_tag() -> None:
    class Card(msgspec.Struct, tag="card"):
        number: str

    class Cash(msgspec.Struct, tag="cash"):
        pass

    schema = schema_of(Card | Cash)
    assert schema["anyOf"] == [{"$ref": "#/$defs/Card"}, {"$ref": "#/$defs/Cash"}]
    assert schema["$defs"]["Cash"]["properties"]["type"] == {"enum": ["cash"]}


def test_strict_types_say_so() -> None:
    class Strict(msgspec.Struct, forbid_unknown_fields=True):
        a: int

    class StrictModel(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        a: int

    assert schema_of(Strict)["additionalProperties"] is False
    assert shape_digest(Strict) == shape_digest(StrictModel)


def test_a_field_may_be_called_like_a_keyword() -> None:
    first = msgspec.defstruct("A", [("title", str), ("description", str), ("default", list[int]), ("enum", int)])
    assert set(schema_of(first)["properties"]) == {"title", "description", "default", "enum"}
    second = msgspec.defstruct("A", [("title", int), ("description", str), ("default", list[int]), ("enum", int)])
    assert shape_digest(first) != shape_digest(second)


def test_what_json_cannot_carry_has_no_schema() -> None:
    for wrong in (object, complex, list[object]):
        with pytest.raises(DeclarationError):
            schema_of(wrong)
