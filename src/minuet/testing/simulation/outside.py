"""Somebody else's service in a simulated world, with a ledger of what took effect: it outlives every crash."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop, current_process

WAY_S = (0.001, 0.05)  # of a call there, and of its answer back
NO_ANSWER_S = (0.05, 2.0)  # until whoever calls learns that no answer comes


class Effect(NamedTuple):
    """What took effect. `receipt` is the answer; `at_s`: simulated time; `process`: who called, or empty."""

    receipt: str
    kind: str
    key: str
    amount: float | None
    op_key: str | None
    at_s: float
    process: str


class Outside:
    """A service that knows nothing of Minuet: a bank, a carrier.

    `idempotent`: a repetition of the same kind and key has no second effect, and gets the first receipt. `lose_reply`:
    how often the answer is lost after the effect, a share; None: as often as `faults` says.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        chance: Chance,
        faults: Faults,
        name: str,
        *,
        idempotent: bool = True,
        lose_reply: float | None = None,
    ) -> None:
        self.name = name
        self.idempotent = idempotent
        self.faults = faults
        self.effects: list[Effect] = []
        self._loop = loop
        self._chance = chance
        self._lose_reply = lose_reply
        self._first: dict[tuple[str, str], Effect] = {}
        self._counts = Counter[tuple[str, str]]()

    async def call(self, kind: str, key: str, amount: float | None = None, *, op_key: str | None = None) -> str:
        """Have something done, as `charge` of `o-1`; gives the receipt. `op_key` is noted in the ledger.

        A call goes on when its caller gives up or crashes: then it may have its effect, or not.

        Raises:
            ConnectionError: no answer came; whether it had its effect is unknown.
        """
        answer: asyncio.Future[str] = self._loop.create_future()
        if self._chance.strikes("call_lost", self.faults.call_lost):
            self._loop.call_outside(self._draw(NO_ANSWER_S), self._fail, answer)
        else:
            call = Effect("", kind, key, amount, op_key, 0.0, "")
            self._loop.call_outside(self._draw(WAY_S), self._arrive, call, current_process(), answer)
        return await answer

    def count(self, kind: str, key: str) -> int:
        """Give how often this took effect."""
        return self._counts[kind, key]

    def net(self, key: str) -> float:
        """Give the sum of the amounts of a key."""
        return sum(effect.amount or 0 for effect in self.effects if effect.key == key)

    def twice(self) -> list[tuple[str, str, int]]:
        """Give what took effect more than once: its kind, its key, and how often."""
        return [(kind, key, n) for (kind, key), n in self._counts.items() if n > 1]

    def _arrive(self, call: Effect, process: Process | None, answer: asyncio.Future[str]) -> None:
        if process is not None and not process.is_alive and self._chance.stream(f"{self.name}: sent").random() < 0.5:
            return  # it had not left the process when that crashed
        receipt = self._perform(call, "" if process is None else process.name)
        lose_reply = self.faults.reply_lost if self._lose_reply is None else self._lose_reply
        if self._chance.strikes("reply_lost", lose_reply):
            self._loop.call_outside(self._draw(NO_ANSWER_S), self._fail, answer)
        else:
            self._loop.call_outside(self._draw(WAY_S), _answer, answer, receipt)

    def _perform(self, call: Effect, process: str) -> str:
        first = self._first.get((call.kind, call.key))
        if first is not None and self.idempotent:
            return first.receipt
        receipt = f"{self.name}-{len(self.effects) + 1}"
        effect = call._replace(receipt=receipt, at_s=self._loop.time(), process=process)
        self.effects.append(effect)
        self._first.setdefault((call.kind, call.key), effect)
        self._counts[call.kind, call.key] += 1
        return receipt

    def _fail(self, answer: asyncio.Future[str]) -> None:
        if not answer.done():
            answer.set_exception(ConnectionError(f"{self.name} does not answer"))

    def _draw(self, between: tuple[float, float]) -> float:
        return self._chance.between(f"{self.name}: way", *between)


def _answer(answer: asyncio.Future[str], receipt: str) -> None:
    if not answer.done():
        answer.set_result(receipt)
