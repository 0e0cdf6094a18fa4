"""Outcome tapes: what actions answer in a test instead of running, attempt by attempt, and what befalls them meanwhile.

A tape is a list under the name of an action, `"inventory.reserve"`; each attempt takes its next entry:

| entry | the attempt |
| --- | --- |
| a `Rejection` | is rejected |
| any other exception | fails, and is tried again |
| `...` | runs the real action; so does each attempt after the end of the tape |
| `Crash()`, `Crash("before")` | runs the real action, and then its process is gone; or it is gone before |
| `Delay(30)`, `Delay(30, then=…)` | takes 30 simulated seconds, then goes on as another entry says |
| anything else | answers with this value |
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from minuet.contracts.action import ActionSpec, ReactionSpec
from minuet.contracts.handler import Transaction
from minuet.contracts.service import Service, service_spec
from minuet.errors import DeclarationError, NotFound

Outcomes = Mapping[str, Sequence[Any]]
Call = Callable[[], Coroutine[Any, Any, Any]]
Around = Callable[[str, ActionSpec | ReactionSpec, Call], Awaitable[Any]]
"""What stands around each call: it is given the name, the declaration and the call itself, and answers for it."""


@dataclass(frozen=True, slots=True)
class Crash:
    """That the process crashes around an attempt: `after` the action has done its work and before that is recorded.

    What an action writes within its transaction is recorded with its outcome, in one commit: then it crashes after
    that commit, before anybody has heard of it.
    """

    when: Literal["before", "after"] = "after"

    def __post_init__(self) -> None:
        if self.when not in ("before", "after"):
            raise DeclarationError(
                f"Crash({self.when!r}) is neither before nor after", remedy='Give "before", or nothing'
            )


@dataclass(frozen=True, slots=True)
class Delay:
    """That an attempt takes so many simulated seconds longer; `then` is what follows: the real action, or an entry."""

    seconds: float
    then: Any = ...


class Tapes:
    """The tapes of one world: they outlive its processes, as the world outside would.

    Raises:
        NotFound: there is no such action: a slip of the pen would otherwise change nothing.
    """

    def __init__(self, outcomes: Outcomes | None, actions: Collection[str]) -> None:
        unknown = sorted(set(outcomes or ()) - set(actions))
        if unknown:
            raise NotFound(
                f"outcomes names {', '.join(unknown)}, and there is no such action",
                remedy=f"There are: {', '.join(sorted(actions)) or 'none'}",
            )
        self._rows = {name: list(row) for name, row in (outcomes or {}).items()}

    def put(self, action: str, entry: Any) -> None:
        """Have the next attempt of an action take this entry."""
        self._rows.setdefault(action, []).insert(0, entry)

    def take(self, action: str) -> Any:
        """Take the next entry; `...` if none is left."""
        row = self._rows.get(action)
        return row.pop(0) if row else ...

    def left(self) -> dict[str, list[Any]]:
        """Give what no attempt has taken."""
        return {name: list(row) for name, row in self._rows.items() if row}


def actions_of(services: Collection[Service]) -> list[str]:
    """Give the names of all actions and compensations: `payments.charge`."""
    specs = [service_spec(type(s)) for s in services]
    return [f"{spec.name}.{name}" for spec in specs for name in spec.actions]


async def delayed(entry: Any) -> Any:
    """Wait as long as an entry says; give what it says besides."""
    while isinstance(entry, Delay):
        await asyncio.sleep(entry.seconds)
        entry = entry.then
    return entry


def stand_in(service: Service, around: Around) -> Service:
    """Give a service that declares what this one declares, and calls it with something `around` each call."""
    spec = service_spec(type(service))

    def standing(name: str, declared: Any) -> Any:
        async def function(_: Service, **arguments: Any) -> Any:
            async def call() -> Any:
                value = declared.function(service, **arguments)
                return await value if inspect.isawaitable(value) else value

            return await around(f"{spec.name}.{name}", declared, call)

        return replace(declared, function=function, is_async=True)

    async def setup(_: Service, tx: Transaction) -> None:
        await service.setup(tx)

    members: dict[str, Any] = {} if type(service).setup is Service.setup else {"setup": setup}
    actions = {name: standing(name, a) for name, a in spec.actions.items()}
    reactions = {name: standing(name, r) for name, r in spec.reactions.items()}
    members["__service_spec__"] = replace(spec, actions=actions, reactions=reactions)
    cls = type(type(service).__name__, (type(service),), members, name=spec.name)
    made: Service = object.__new__(cls)
    return made
