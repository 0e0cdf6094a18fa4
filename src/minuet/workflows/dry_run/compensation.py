"""Compensation in a dry run: what was done, in scopes, and how it is taken back, last first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minuet.contracts.action import ActionSpec
from minuet.contracts.service import Service, service_spec
from minuet.contracts.step import Step
from minuet.workflows.dry_run.actor import Actor
from minuet.workflows.dry_run.trace import Round, Trace


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done, and `service` and `spec` of the action that undoes it."""

    position: str
    round: Round
    service: Service
    spec: ActionSpec
    arguments: bytes
    result: bytes


class Scopes:
    """The scopes around the point of execution: the whole workflow, then each attempt and branch in it."""

    def __init__(self, actor: Actor, trace: Trace) -> None:
        self._actor = actor
        self._trace = trace
        self._open: list[list[Done]] = [[]]

    def add(self, done: Done) -> None:
        """Keep what may have to be undone, in the innermost scope."""
        self._open[-1].append(done)

    def begin(self) -> None:
        """Begin a scope inside the innermost one."""
        self._open.append([])

    def end(self) -> list[Done]:
        """End the innermost scope, and give what was done in it: to be kept, or to be undone."""
        return self._open.pop()

    def keep(self, scope: list[Done]) -> None:
        """Add what was done in a scope that has ended to the one around it."""
        self._open[-1].extend(scope)

    async def undo(self, scope: list[Done]) -> None:
        """Compensate what was done in a scope that has ended, last first."""
        for done in reversed(scope):
            await self._actor.compensate(
                done.service, done.spec, done.position, done.round, done.arguments, done.result
            )
            self._trace.record(done.position, done.round, "compensated")


def compensation_of(step: Step[Any], spec: ActionSpec) -> tuple[Service, ActionSpec] | None:
    """Give what undoes a step: what the workflow says, else what the contract says."""
    service: Any = step.bound.service
    if step.kept:
        return None
    if step.compensation is not None:
        service, name = step.compensation.service, step.compensation.action.name
    elif spec.compensation is not None:
        name = spec.compensation
    else:
        return None
    return service, service_spec(type(service)).actions[name]
