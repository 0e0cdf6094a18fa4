"""Whoever uses a simulated app from outside: asks one of its processes, and asks again where no answer comes."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, cast

from minuet.errors import Busy, NotActive, NotRunning, StoreError
from minuet.runtime.client import Run, Verbs
from minuet.runtime.control import Control
from minuet.runtime.view import EventReceipt
from minuet.testing.simulation.clock import pass_time

if TYPE_CHECKING:
    from minuet.testing.simulation.world import World

ANSWER_S = 5.0
AGAIN_S = 0.2
_TRANSIENT = (StoreError, Busy, NotRunning, NotActive)


class SimulatedClient(Verbs):
    """The typed verbs, as `App` and `Client` have them; every start has a key, so that it may be asked for again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count(1)
        self._control = _Asking(world)

    @property
    def control(self) -> Control:
        """The plain verbs."""
        return cast("Control", self._control)

    async def start(self, flow: Any, input: Any = None, *, key: str | None = None, **more: Any) -> Run[Any]:
        """Start a run; see `Verbs.start`."""
        key = key or f"k{next(self._numbers)}"
        run = await super().start(flow, input, key=key, **more)
        self._world.acknowledged[key] = run.id
        return run

    async def send(self, event: object, *, key: str | None = None, id: str | None = None) -> EventReceipt:
        """Send an event from outside; see `Verbs.send`."""
        return await super().send(event, key=key, id=id or f"e{next(self._numbers)}")


class _Asking:
    """`Control` by whichever process of home is up."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, verb: str) -> Any:
        async def ask(*given: Any, **named: Any) -> Any:
            return await self._ask(verb, given, named)

        return ask

    async def _ask(self, verb: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        world = self._world
        while True:
            up = [m for m in world.members if m.is_home and m.is_up]
            if up:
                member = world.chance.pick("client", up)
                assert member.process is not None
                await pass_time(world.chance.between("client", 0.0005, 0.005))
                if member.control is not None and member.process.is_alive:
                    asked = member.process.spawn(
                        getattr(member.control, verb)(*given, **named), name=f"client's {verb}"
                    )
                    done, _ = await asyncio.wait([asked], timeout=ANSWER_S)
                    asked.cancel()  # of no effect where it is done
                    if done and not asked.cancelled():
                        error = asked.exception()
                        if not isinstance(error, _TRANSIENT):
                            return asked.result()
            await pass_time(AGAIN_S)
