"""Which name is bound where, and with which type, through branches, loops and attempts.

A scope is the state of one point of the text. Arms work on copies, which are merged where the arms meet; an arm
that always leaves gives no scope, and does not count. Names that some ways bind and others do not stay in the
scope as `Partly`, so that the refusal can say which way lacks them. What an attempt's body bound is `Partly` too,
until `tried.rejected` of that attempt is known to be false.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from minuet.workflows.reader.pure.valuetype import AttemptType, Opaque, RejectedType, ValueType, join


@dataclass(frozen=True, slots=True)
class Bound:
    """A name that has a value, of this type."""

    type: ValueType


@dataclass(frozen=True, slots=True)
class Partly:
    """A name that has a value on some ways only; `why` completes the sentence "x is not bound …".

    `site` is the attempt whose body bound it: when that was not rejected, the name is what `inside` says.
    """

    why: str
    site: int | None = None
    inside: Bound | Partly | None = None


class Scope:
    """The names of one point of the text, and what is known there about the attempts before it.

    `assigned` are the names that were bound, also anew, since the innermost attempt began.
    """

    __slots__ = ("assigned", "names", "rejected")

    def __init__(
        self,
        names: Mapping[str, Bound | Partly] | None = None,
        rejected: Mapping[int, bool] | None = None,
        assigned: Iterable[str] = (),
    ) -> None:
        self.names = dict(names or {})
        self.rejected = dict(rejected or {})
        self.assigned = set(assigned)

    def copy(self) -> Scope:
        """Give a scope for an arm."""
        return Scope(self.names, self.rejected, self.assigned)

    def knowing(self, rejected: Mapping[int, bool]) -> Scope:
        """Give a copy in which these attempts are known to be rejected, or not to be."""
        return Scope(self.names, {**self.rejected, **rejected}, self.assigned)

    def bind(self, name: str, value_type: ValueType) -> None:
        """Record that a name has a value from here on."""
        self.names[name] = Bound(value_type)
        self.assigned.add(name)

    def forget(self, name: str, why: str) -> None:
        """Record that a name may not be read from here on."""
        self.names[name] = Partly(why)

    def lookup(self, name: str) -> Bound | Partly | None:
        """Give what is known of a name here; None where nothing has bound it on any way."""
        binding = self.names.get(name)
        while isinstance(binding, Partly) and binding.site is not None and self.rejected.get(binding.site) is False:
            binding = binding.inside
        return binding

    def agrees(self, other: Scope, names: Iterable[str]) -> bool:
        """Tell whether these names, and what is known of attempts, are the same in both scopes."""
        return self.rejected == other.rejected and all(self.lookup(name) == other.lookup(name) for name in names)

    def widen(self, other: Scope, names: Iterable[str]) -> None:
        """Take names whose types differ as of any type: a value that is put into itself has ever another one."""
        for name in names:
            if self.lookup(name) != other.lookup(name):
                self.names[name] = Bound(Opaque("a value of ever another type"))

    def enter_attempt(self) -> Scope:
        """Give the scope in which an attempt's body begins."""
        return Scope(self.names, self.rejected)

    def leave_attempt(self, body: Scope | None, site: int, line: int) -> Scope:
        """Give the scope after an attempt that began in this one; `body` is the end of its body, if it has one.

        What the body bound, also anew, is there only if it was not rejected.
        """
        after = self.copy()
        after.rejected.pop(site, None)
        if body is None:  # the body always leaves, so what follows is reached by its rejection only
            after.rejected[site] = True
            return after
        for name in body.assigned:
            why = f"when the attempt of line {line} was rejected, which takes its work back"
            after.names[name] = Partly(why, site, body.lookup(name))
        after.assigned |= body.assigned
        return after


def merge(arms: Iterable[tuple[Scope | None, str]]) -> Scope | None:
    """Give the scope where arms meet; None if all of them have left.

    Each arm comes with the words that say when it is taken ("when line 24 takes the other arm").
    """
    meeting = [(scope, when) for scope, when in arms if scope is not None]
    if not meeting:
        return None
    (first, _), *others = meeting
    if not others:
        return first
    merged = Scope(
        rejected={s: known for s, known in first.rejected.items() if _agree(meeting, s, known=known)},
        assigned=set().union(*(scope.assigned for scope, _ in meeting)),
    )
    for name in dict.fromkeys(name for scope, _ in meeting for name in scope.names):
        merged.names[name] = _merged(name, meeting)
    return merged


def _agree(meeting: list[tuple[Scope, str]], site: int, *, known: bool) -> bool:
    return all(scope.rejected.get(site) is known for scope, _ in meeting)


def _merged(name: str, meeting: list[tuple[Scope, str]]) -> Bound | Partly:
    bindings = [(scope.lookup(name), when) for scope, when in meeting]
    (first, _), *others = bindings
    if first is not None and all(binding == first for binding, _ in others):
        return first
    joined: ValueType | None = None
    for binding, when in bindings:
        if not isinstance(binding, Bound):
            return Partly(when if binding is None else binding.why)
        if joined is not None and _is_of_attempt(joined, binding.type):
            return Partly(when)
        joined = binding.type if joined is None else join(joined, binding.type)
    assert joined is not None
    return Bound(joined)


def _is_of_attempt(a: ValueType, b: ValueType) -> bool:
    """Tell whether two types would mix what is known of two attempts."""
    return isinstance(a, AttemptType | RejectedType) or isinstance(b, AttemptType | RejectedType)
