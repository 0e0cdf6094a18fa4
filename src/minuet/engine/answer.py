"""What running an action told: one of three, which are never mixed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """It is done; `value` is the result as JSON text, None for nothing."""

    value: bytes | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """It said no, with a declared code: definite, nothing stands."""

    code: str
    message: str = ""
    details: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Something technical went wrong: it is tried again, unless `final`, which parks it at once.

    `retry_after_ms` is the error's own wish, and wins over the computed delay.
    """

    error: str
    retry_after_ms: int | None = None
    final: bool = False


Answer = Done | Rejected | Failed
