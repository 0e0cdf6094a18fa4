"""A kit for users and for authors of stores: what is needed to test workflows and backends."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minuet.testing.assertion import assert_published, assert_same_trace, eventually
    from minuet.testing.kept import replay
    from minuet.testing.kit import Kit
    from minuet.testing.outcomes import Crash, Delay
    from minuet.testing.simulated import SimulatedApp, SimulatedRun
    from minuet.testing.simulating import Simulation, simulate
    from minuet.testing.variants import styles

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

# Loaded when it is asked for: whoever tests a store needs none of the simulator.
_PLACES = {
    "Crash": "outcomes",
    "Delay": "outcomes",
    "Kit": "kit",
    "SimulatedApp": "simulated",
    "SimulatedRun": "simulated",
    "Simulation": "simulating",
    "assert_published": "assertion",
    "assert_same_trace": "assertion",
    "eventually": "assertion",
    "replay": "kept",
    "simulate": "simulating",
    "styles": "variants",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
