"""What running an action told: one of three, which are never mixed up.

`effects` is what took effect in the ledger, or was taken back: most actions declare nothing of the kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from minuet.engine.row import EffectKey, EffectRow


@dataclass(frozen=True, slots=True)
class Done:
    """It is done; `value` is the result as JSON text, None for nothing."""

    value: bytes | None
    effects: ClassVar[tuple[EffectRow | EffectKey, ...]] = ()  # not even a place for it: each step makes one of these


@dataclass(frozen=True, slots=True)
class DoneWith(Done):
    """It is done, and the ledger is told."""

    effects: tuple[EffectRow | EffectKey, ...] = ()  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Rejected:
    """It said no, with a declared code: definite, nothing stands."""

    code: str
    message: str = ""
    details: Any = None
    effects: tuple[EffectRow | EffectKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Something technical went wrong: it is tried again, unless `final`, which parks it at once.

    `retry_after_ms` is the error's own wish, and wins over the computed delay. `reason`: it is parked under this name,
    also where a step's policy would reject it. `effects`: a reaction may have done something before it failed.
    """

    error: str
    retry_after_ms: int | None = None
    final: bool = False
    reason: str | None = None
    effects: tuple[EffectRow | EffectKey, ...] = ()


Answer = Done | Rejected | Failed
