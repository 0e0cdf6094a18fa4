"""Pydantic models as payloads: known by their validator, called directly, and Pydantic itself never imported first.

A model brings Pydantic with it; what is needed of the library is taken from there. Nothing here runs for a program
that has no models.
"""

from __future__ import annotations

import functools
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
    from pydantic import TypeAdapter  # noqa: PLC0415 - there since the model is; never loaded before it
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError  # noqa: PLC0415

    try:
        return TypeAdapter(cls).json_schema(by_alias=True, mode="validation", schema_generator=_generator())
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise DeclarationError(
            f"{cls.__qualname__} has no JSON Schema: {error}", remedy="Use types that JSON knows"
        ) from error


@functools.cache
def _generator() -> Any:
    """Make Pydantic's own generator say what we write: decimals as strings, bytes as base64, no titles."""
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415 - as above

    class SchemaOfModel(GenerateJsonSchema):
        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            anyway = super().decimal_schema(schema).get("anyOf", [])
            number: dict[str, Any] = next((s for s in anyway if s["type"] == "number"), {})  # has the bounds
            return {**number, "type": "string", "format": "decimal"}

        def bytes_schema(self, schema: Any) -> dict[str, Any]:
            given = super().bytes_schema(schema)
            if given.pop("format", None) != "base64url":
                raise DeclarationError(
                    "a Pydantic model writes bytes as text, and fails where they are none",
                    remedy='Set model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")',
                )
            return {**given, "contentEncoding": "base64url"}

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return SchemaOfModel
