"""A kit for users and for authors of stores: what is needed to test workflows and backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minuet.testing.public import (
        Crash,
        Delay,
        Kit,
        SimulatedApp,
        SimulatedRun,
        Simulation,
        assert_published,
        assert_same_trace,
        eventually,
        replay,
        simulate,
        styles,
    )

__all__ = [
    "Crash",
    "Delay",
    "Kit",
    "SimulatedApp",
    "SimulatedRun",
    "Simulation",
    "assert_published",
    "assert_same_trace",
    "eventually",
    "replay",
    "simulate",
    "styles",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for: whoever tests a store needs none of the simulator."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minuet.testing import public  # noqa: PLC0415 - as it says

    return getattr(public, name)
