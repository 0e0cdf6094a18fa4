"""The program that W7 starts: as a user writes it, with one run. Arguments: store, how many runs, seconds idle."""

import asyncio
import json
import sys
import time
from pathlib import Path

from minuet import App, Service, action, workflow


class Steps(Service):
    @action
    async def reserve(self, order: str) -> str:
        return order + "n" * 90

    @action
    async def charge(self, reserved: str) -> str:
        return reserved

    @action
    async def ship(self, charged: str) -> str:
        return charged


@workflow
async def sequence(order: str, *, steps: Steps) -> str:
    reserved = await steps.reserve(order)
    charged = await steps.charge(reserved)
    return await steps.ship(charged)


app = App("bench", services=[Steps()], workflows=[sequence])  # for `minuet run`, which says where the store is


async def main(store: str, runs: int, idle_s: float) -> None:
    async with App("bench", services=[Steps()], workflows=[sequence], store=f"sqlite:///{store}") as app:
        left = iter(range(runs))

        async def client() -> None:
            for i in left:
                await app.run(sequence, f"{i:08}")

        await asyncio.gather(*(client() for _ in range(min(runs, 500))))
        ended_at = time.monotonic()
        await asyncio.sleep(idle_s)
        print(json.dumps({"ended_at": ended_at, "idle_mb": resident_mb()}))


def resident_mb() -> float:
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
