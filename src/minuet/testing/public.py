"""The public names of the kit: loaded together, when `minuet.testing` is asked for the first of them."""

from __future__ import annotations

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
