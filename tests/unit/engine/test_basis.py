"""What decisions stand on: once one of them is not recorded, none that was made after it is."""

from __future__ import annotations

from minuet.engine.basis import Basis, is_lost, lose
from minuet.engine.row import Decision


def decision(basis: Basis | None) -> Decision:
    made = Decision(1)
    made.basis = basis
    return made


def test_what_stands_on_something_lost_is_lost() -> None:
    basis = Basis()
    first, second, other = decision(basis), decision(basis), decision(Basis())
    assert not is_lost(second)
    lose(first)
    assert is_lost(second)
    assert not is_lost(other)


def test_what_stands_on_nothing_is_never_lost() -> None:
    alone = decision(None)
    lose(alone)
    assert not is_lost(alone)
