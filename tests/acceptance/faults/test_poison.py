"""One of many always raises: it is parked and listed, the others do not notice, and the fix takes it up (F17)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest

from minuet import App, Rejection, Service, Transaction, action, injected, workflow
from minuet.contracts.action import RetryPolicy
from minuet.runtime.settings import Settings

pytestmark = pytest.mark.asyncio

MANY = 1_000
EVERY = 100


class Unfit(Rejection): ...


class Mill(Service):
    poison = "kernel-"

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists ground (what text)")

    @action
    async def clean(self, what: str) -> str:
        return what

    @action(rejects=(Unfit,))  # so there is a way back, and it is not tried for ever
    async def grind(self, what: str, *, tx: Transaction = injected()) -> str:
        await tx.execute("insert into ground values (?)", what)
        if self.poison and what.startswith(self.poison):
            raise ZeroDivisionError(f"{what} is too hard")
        return what

    @action
    async def ground(self, _: str, *, tx: Transaction = injected()) -> list[str]:
        return [str(row[0]) for row in await tx.fetch("select what from ground")]


@workflow
async def mill(what: str, *, mill: Mill) -> str:
    clean = await mill.clean(what)
    return await mill.grind(clean)


@workflow
async def look(what: str, *, mill: Mill) -> list[str]:
    return await mill.ground(what)


async def test_poison_is_parked_while_everybody_else_goes_on(tmp_path: Path) -> None:
    service = Mill()
    app = App("mill", services=[service], workflows=[mill, look])
    settings = Settings(
        store_url=f"sqlite:///{tmp_path / 'mill.db'}",
        retry=RetryPolicy(attempts=3, first_ms=10, factor=2, at_most_ms=50),
    )
    names = [f"kernel-{n}" if n % EVERY == 7 else f"grain-{n}" for n in range(MANY)]
    poison = {n for n in names if n.startswith("kernel")}

    async def mill_all(those: list[str]) -> float:
        began, left = monotonic(), iter(those)

        async def miller() -> None:
            for name in left:
                run = await app.start(mill, name, key=name)
                if name not in poison:
                    assert await run.result(60) == name

        await asyncio.gather(*(miller() for _ in range(50)))
        return monotonic() - began

    await app.open(settings)
    seconds = await mill_all(names)
    print(f"{MANY / seconds:,.0f} runs/s, {len(poison)} of them poisonous")
    async with asyncio.timeout(60):
        for name in poison:
            view = await app.control.wait((await app.find(mill, name)).id, None)
            assert view.state == "stuck"
            assert view.reason is not None
            assert "3 attempts" in view.reason
            assert "too hard" in view.reason
    assert {(f.key, f.attempts) for f in await app.control.failed()} == {(name, 3) for name in poison}
    assert Counter(await app.run(look, "")) == Counter(set(names) - poison)
    await app.stop()

    service.poison = ""  # the fix is deployed
    await app.open(settings)
    assert len(await app.control.failed()) == len(poison)  # nothing is tried again that nobody asked for
    for name in poison:
        run = await app.find(mill, name)
        await run.retry()
        assert await run.result(60) == name
    assert await app.control.failed() == []
    assert Counter(await app.run(look, "")) == Counter(names)
    await app.stop()
