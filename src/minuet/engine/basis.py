"""What decisions stand on: a run's next one is made before the last one is durable, and is worth nothing without it."""

from __future__ import annotations

from typing import Protocol


class Basis:
    """What is known of a run by one reading of its rows, and by what was decided since.

    As soon as one decision that was made on it is not recorded, or it is unknown whether it is, none that was made
    after it may be: it would leave a gap. Whoever decided reads the run anew, and stands on another one.
    """

    __slots__ = ("is_lost",)

    def __init__(self) -> None:
        self.is_lost = False


class Based(Protocol):
    """A decision, or a work. `basis`: None where it stands on nothing."""

    basis: Basis | None


def is_lost(item: Based) -> bool:
    """Say whether something that this was made on is not recorded."""
    return item.basis is not None and item.basis.is_lost


def lose(item: Based) -> None:
    """Say that this is not recorded, or may not be: nothing that was made on it is to be."""
    if item.basis is not None:
        item.basis.is_lost = True
