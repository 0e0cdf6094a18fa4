"""A program of Minuet as the works use it: in the process that measures, over one SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minuet import App, Service, Workflow


def open_app(services: Sequence[Service], workflows: Sequence[Workflow[Any, Any, Any]], store: Path) -> App:
    """Give a program that is still to be opened (`async with`)."""
    return App("bench", services=services, workflows=workflows, store=f"sqlite:///{store}")
