"""A process that publishes and hears until it is killed, and says on its output what was confirmed, in order."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from minuet.brokers.embedded import EmbeddedBroker
from minuet.engine.broker import Received
from minuet.runtime.clock import SystemClock
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.broker_suite import Ear, envelope, listen

PUBLISHERS = 20


async def main(file: Path) -> None:
    broker = EmbeddedBroker(SqliteStore(file), SystemClock())
    told = sys.stdout.buffer
    await broker.open()
    await listen(broker, "quick")
    await listen(broker, "slow", ear=Ear(acknowledges=False))
    await listen(broker, "odd", ear=OddEar())

    async def publish(publisher: int) -> None:
        for n in range(1_000_000):
            message = f"{RUN}-{publisher}-{n:06}"
            await broker.publish([envelope(message, key=str(publisher))])
            told.write(f"{message}\n".encode())
            told.flush()

    await asyncio.gather(*(publish(n) for n in range(PUBLISHERS)))


class OddEar(Ear):
    """It acknowledges every other message."""

    def acknowledge(self, batch: Sequence[Received] | None = None) -> None:
        super().acknowledge([r for r in batch or () if r.envelope.id[-1] in "13579"])


RUN = uuid.uuid4().hex[:8]

if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
