"""Pydantic models as payloads: known by their validator, called directly, and Pydantic itself never imported first.

A model brings Pydantic with it; what is needed of the library is taken from there. Nothing here runs for a program
that has no models.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from minuet.errors import DeclarationError


def is_model(cls: Any) -> bool:
    """Tell whether a class is a Pydantic model, or a dataclass of Pydantic's."""
    return isinstance(cls, type) and hasattr(cls, "__pydantic_validator__")


def decode(cls: Any, raw: bytes) -> Any:
    """Validate JSON by the model itself."""
    return cls.__pydantic_validator__.validate_json(raw)


def encode(value: Any) -> bytes:
    """Write a model as JSON, under the names by which it is read."""
    raw: bytes = type(value).__pydantic_serializer__.to_json(value, by_alias=True)
    return raw


def to_python(value: Any) -> Any:
    """Give a model's content as plain Python values, dates and numbers as they are."""
    return type(value).__pydantic_serializer__.to_python(value, by_alias=True)


def error_path(error: Exception) -> str | None:
    """Give where in the document Pydantic found the first mistake, or None if the error is not Pydantic's."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return None
    path = "$"
    for part in errors(include_url=False, include_context=False, include_input=False)[0]["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def error_text(error: Exception) -> str:
    """Give Pydantic's first complaint in its own words."""
    found: str = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]  # type: ignore[attr-defined]
    return found


def json_schema(cls: Any) -> dict[str, Any]:
    """Give the model's JSON Schema, without the titles that Pydantic makes up.

    Raises:
        DeclarationError: the model has bytes that it would write as text, or has no schema.
    """
    adapter = importlib.import_module("pydantic").TypeAdapter(cls)
    try:
        schema: dict[str, Any] = adapter.json_schema(by_alias=True, mode="validation", schema_generator=_generator())
    except DeclarationError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "pydantic":
            raise
        raise DeclarationError(
            f"{cls.__qualname__} has no JSON Schema: {error}", remedy="Use types that JSON knows"
        ) from error
    return schema


@functools.cache
def _generator() -> type:
    """Make Pydantic's own generator say what we write: decimals as strings, bytes as base64, no titles."""
    base: Any = importlib.import_module("pydantic.json_schema").GenerateJsonSchema

    def decimal_schema(self: Any, schema: Any) -> dict[str, Any]:
        anyway: list[dict[str, Any]] = base.decimal_schema(self, schema).get("anyOf", [])
        number = next((s for s in anyway if s["type"] == "number"), {})  # has the bounds
        return {**number, "type": "string", "format": "decimal"}

    def bytes_schema(self: Any, schema: Any) -> dict[str, Any]:
        given = base.bytes_schema(self, schema)
        if given.get("format") != "base64url":
            raise DeclarationError(
                "a Pydantic model writes bytes as text, and fails where they are none",
                remedy='Set model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")',
            )
        return {**{k: v for k, v in given.items() if k != "format"}, "contentEncoding": "base64url"}

    return type(
        "SchemaOfModel",
        (base,),
        {
            "decimal_schema": decimal_schema,
            "bytes_schema": bytes_schema,
            "field_title_should_be_set": lambda *_: False,
        },
    )
