"""Pydantic models as payloads, through their own validator and serializer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pydantic
import pytest
from pydantic.dataclasses import dataclass as pydantic_dataclass

from minuet.contracts import pydantic_model
from minuet.errors import DeclarationError


class Line(pydantic.BaseModel):
    count: int


class Order(pydantic.BaseModel):
    number: str = pydantic.Field(alias="orderNumber")
    day: date
    lines: list[Line] = []


@pydantic_dataclass
class Point:
    x: int


@dataclass
class Plain:
    x: int


ORDER = b'{"orderNumber":"7","day":"2026-01-01","lines":[{"count":1}]}'


def test_a_model_is_known_by_its_validator() -> None:
    assert pydantic_model.is_model(Order)
    assert pydantic_model.is_model(Point)
    assert not pydantic_model.is_model(Plain)
    assert not pydantic_model.is_model(Line(count=1))


def test_a_model_is_written_under_the_names_by_which_it_is_read() -> None:
    order = pydantic_model.decode(Order, ORDER)
    assert order == Order(orderNumber="7", day=date(2026, 1, 1), lines=[Line(count=1)])
    assert pydantic_model.encode(order) == ORDER
    assert pydantic_model.to_python(order)["day"] == date(2026, 1, 1)


def test_the_first_mistake_is_told_with_its_path() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic_model.decode(Order, b'{"orderNumber":"7","day":"2026-01-01","lines":[{"count":1},{"count":"many"}]}')
    assert pydantic_model.error_path(caught.value) == "$.lines[1].count"
    assert "valid integer" in pydantic_model.error_text(caught.value)


def test_an_error_of_somebody_else_has_no_path() -> None:
    assert pydantic_model.error_path(ValueError("no")) is None


def test_the_schema_says_what_is_written() -> None:
    class Price(pydantic.BaseModel):
        amount: Decimal
        image: bytes
        model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    assert pydantic_model.json_schema(Price) == {
        "type": "object",
        "title": "Price",
        "properties": {
            "amount": {"type": "string", "format": "decimal"},
            "image": {"type": "string", "contentEncoding": "base64url"},
        },
        "required": ["amount", "image"],
    }


def test_a_model_with_no_schema_is_refused() -> None:
    class Holder(pydantic.BaseModel):
        call: Callable[[int], int]

    with pytest.raises(DeclarationError, match="Holder has no JSON Schema"):
        pydantic_model.json_schema(Holder)


def test_asking_for_a_model_does_not_import_pydantic() -> None:
    script = """
import json, sys
from minuet.contracts.codec import codec_for
codec_for(dict[str, int]).decode(codec_for(dict[str, int]).encode({"a": 1}))
print(json.dumps([name for name in sys.modules if name.startswith("pydantic")]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
