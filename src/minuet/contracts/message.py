"""Message types: what `@event` declares about a dataclass, a `msgspec.Struct` or a Pydantic model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from minuet.errors import DeclarationError

T = TypeVar("T")

TAKEN_BACK = ".taken-back"
"""What the type of a notice ends in that says that an event is taken back."""

_MARK = "__minuet_event__"
_NAME_MAX = 120
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?:\.[a-z][a-z0-9]*(?:-[a-z0-9]+)*)+")
_VERSION_PART = re.compile(r"v[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSpec:
    """What is declared of a type of event.

    `key` is the field by which waits and reactions find an event; `public`: readers may be anybody; `external`:
    it comes from outside.
    """

    name: str
    version: int
    key: str | None = None
    public: bool = False
    external: bool = False


def event(
    name: str, *, version: int, key: str | None = None, public: bool = False, external: bool = False
) -> Callable[[type[T]], type[T]]:
    """Declare a type of event: `[domain.]service.past-participle`, and a version, which is one shape for ever."""
    check_event_name(name)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DeclarationError(
            f"the version of {name} is {version!r}", remedy="Give a whole number, counting from 1", event=name
        )
    spec = EventSpec(name=name, version=version, key=key, public=public, external=external)

    def declare(cls: type[T]) -> type[T]:
        fields = field_names(cls)
        if fields is None:
            raise DeclarationError(
                f"{cls.__qualname__} is declared as the event {name}, but it is no dataclass, Struct or Pydantic model",
                remedy="Put @event(…) above @dataclass, or derive from msgspec.Struct or pydantic.BaseModel",
                event=name,
            )
        if key is not None and key not in fields:
            raise DeclarationError(
                f'the event {name} has key="{key}", but {cls.__qualname__} has no such field',
                remedy=f"Name one of its fields: {', '.join(fields)}",
                event=name,
            )
        setattr(cls, _MARK, spec)
        return cls

    return declare


def event_spec(cls: Any) -> EventSpec | None:
    """Give what `@event` declared about this very class (not about its bases), or None."""
    spec = vars(cls).get(_MARK) if isinstance(cls, type) else None
    return spec if isinstance(spec, EventSpec) else None


def check_event_name(name: str) -> None:
    """Refuse a name of an event type that is not `[domain.]service.past-participle`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DeclarationError(
            f"{name!r} is no name for an event type",
            remedy='Use lower case words, joined by hyphens and at least one dot, as in "shop.payments.charged"',
        )
    if len(name) > _NAME_MAX:
        raise DeclarationError(
            f"the name of an event type has {len(name)} characters: {name[:40]}…",
            remedy=f"At most {_NAME_MAX} fit everywhere",
        )
    if name.endswith(TAKEN_BACK):
        raise DeclarationError(
            f"the name {name} is the platform's own: so it says that an event is taken back",
            remedy="Give it another name; who wants to know of such a thing says on_compensated=",
            event=name,
        )
    if any(_VERSION_PART.fullmatch(part) for part in name.split(".")):
        raise DeclarationError(
            f"the name {name} contains a version", remedy="Leave it out of the name, and give version=", event=name
        )


def field_names(cls: type) -> tuple[str, ...] | None:
    """Give the names of the fields of a dataclass, Struct or Pydantic model; None for any other class."""
    if dataclasses.is_dataclass(cls):
        # A class that is derived from a dataclass without being one has fields that nobody sets.
        return tuple(f.name for f in dataclasses.fields(cls)) if "__dataclass_fields__" in vars(cls) else None
    struct_fields = getattr(cls, "__struct_fields__", None)
    if struct_fields is not None:
        return tuple(struct_fields)
    if hasattr(cls, "__pydantic_validator__"):
        return tuple(getattr(cls, "model_fields", ()))
    return None
