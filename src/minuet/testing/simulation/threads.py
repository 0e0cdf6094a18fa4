"""What takes the place of threads in a simulated process: plain functions are called in the loop, a little later."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.loop import SimulationLoop

TAKES_S = (0.0001, 0.02)


class SimulatedThreads:
    """The interface of `minuet.runtime.threads.Threads`. A function is called whole, in one instant of simulated time.

    As with threads, a function whose caller has given up is called nevertheless; until then it is *abandoned*. It dies
    with its process.
    """

    def __init__(self, loop: SimulationLoop, chance: Chance) -> None:
        self._loop = loop
        self._chance = chance
        self.abandoned = 0

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function after a while, with the context of the caller; cancelling this abandons it."""
        done: asyncio.Future[Any] = self._loop.create_future()
        done.add_done_callback(self._given_up)
        takes_s = self._chance.between("threads", *TAKES_S)
        # In the context of the caller, and so in its process.
        self._loop.call_later(takes_s, self._perform, function, done, context=contextvars.copy_context())
        return await done

    def _given_up(self, done: asyncio.Future[Any]) -> None:
        self.abandoned += done.cancelled()

    def _perform(self, function: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = function()
        except StopIteration:
            error = RuntimeError("the function raised StopIteration")  # a future takes no StopIteration
        except BaseException as e:  # noqa: BLE001 - it is told to whoever waits for the function
            error = e
        if done.done():
            self.abandoned -= 1
        elif error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def close(self) -> None:
        """Do nothing: there are no threads to be ended."""
