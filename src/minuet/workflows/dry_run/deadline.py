"""Deadlines in a dry run: which have passed, and whether an attempt may catch a rejection that one has caused."""

from __future__ import annotations

from dataclasses import dataclass

from minuet.contracts.action import DeadlinePassed, Rejection


@dataclass(slots=True, eq=False)
class _Deadline:
    position: str
    has_passed: bool


class Deadlines:
    """The deadlines around the point of execution, outermost first."""

    def __init__(self) -> None:
        self._around: list[_Deadline] = []
        self._causes: list[tuple[Rejection, _Deadline]] = []

    def enter(self, position: str, *, has_passed: bool) -> None:
        """Begin the block of a deadline."""
        self._around.append(_Deadline(position, has_passed))

    def leave(self) -> None:
        """End the block of the innermost deadline."""
        self._around.pop()

    def passed(self) -> DeadlinePassed | None:
        """Give the rejection of whatever would be done now, inside a deadline that has passed."""
        passed = next((deadline for deadline in self._around if deadline.has_passed), None)
        if passed is None:
            return None
        rejection = DeadlinePassed(f"the deadline {passed.position} has passed")
        self._causes.append((rejection, passed))
        return rejection

    def blame(self, answer: BaseException) -> None:
        """Take a scripted `DeadlinePassed` as the doing of the innermost deadline, if there is one."""
        if isinstance(answer, DeadlinePassed) and self._around:
            self._causes.append((answer, self._around[-1]))

    def is_still_around(self, rejection: Rejection) -> bool:
        """Tell whether a deadline has caused this rejection whose block has not ended: inside it nothing goes on."""
        return any(caused is rejection and deadline in self._around for caused, deadline in self._causes)
