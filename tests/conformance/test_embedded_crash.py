"""`kill -9` of a broker at any moment: whatever was confirmed is heard by every group, in order, and soon enough."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from minuet.brokers.embedded import EmbeddedBroker
from minuet.runtime.clock import SystemClock
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.broker_suite import envelope, listen, opened

WRITER = Path(__file__).with_name("broker_writer.py")
ROUNDS = 6


def confirmed_until_killed(file: Path, after_s: float) -> list[str]:
    """Run the writer, kill it some time after its first confirmation, give what was confirmed."""
    with subprocess.Popen([sys.executable, str(WRITER), str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.endswith(b"\n"), "the writer died by itself"
        killer = threading.Timer(after_s, process.send_signal, [signal.SIGKILL])
        killer.start()
        lines = [first, *process.stdout]
        killer.join()
    assert process.returncode == -signal.SIGKILL
    return [line.decode().strip() for line in lines if line.endswith(b"\n")]


def test_what_was_confirmed_before_a_kill_is_heard_after_it(tmp_path: Path) -> None:
    file = tmp_path / "broker.db"
    chance = random.Random(1)
    confirmed: list[str] = []
    for number in range(ROUNDS):
        is_long = number % 3 == 2  # longer than positions stay unrecorded
        confirmed += confirmed_until_killed(file, chance.uniform(0, 0.3) + 1.2 * is_long)
    assert len(confirmed) > 50 * ROUNDS, "too little was published to mean anything"

    for group in ("new", "slow"):
        heard = asyncio.run(heard_by(group, file))
        assert set(confirmed) <= set(heard), "something confirmed is lost"
        assert len(heard) == len(set(heard)), "something is in the log twice"
        seen = Counter[str]()
        for message in heard:
            publisher, _, number_of_it = message.rpartition("-")
            assert int(number_of_it) == seen[publisher], "it came out of order, or one before it is lost"
            seen[publisher] += 1
    odd = asyncio.run(heard_by("odd", file))
    assert {message for message in confirmed if message[-1] in "02468"} <= set(odd), "it was not acknowledged"
    quick = asyncio.run(heard_by("quick", file))
    assert len(quick) < len(confirmed), "no position was recorded in all that time"


async def heard_by(group: str, file: Path) -> list[str]:
    """Give what a group hears up to a message that is published now."""
    async with opened(EmbeddedBroker(SqliteStore(file), SystemClock())) as broker:
        ear = await listen(broker, group, start="beginning")
        last = f"last-for-{group}"
        await broker.publish([envelope(last)])
        await ear.hear([last])
        return [message for message in ear.ids if not message.startswith("last-for-")]
