"""The shop as a process of its own, which can be killed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from time import monotonic

from minuet import Client, MinuetError

START_TIMEOUT_S = 30
HOUR_S = 3_600
STYLES = {  # the same program, by settings only
    "orchestration": {"place_order": "orchestration", "place_order/2.1": "orchestration"},
    "choreography": {"place_order": "choreography", "place_order/2.1": "choreography"},
    "hybrid": {"place_order": "orchestration", "place_order/2.1": "choreography"},
}


class Worker:
    """`minuet run examples.shop:app`, over one SQLite file or one for each service; it keeps its port.

    `style`: one of `STYLES`; `apart`: whether each service has a store of its own.
    """

    def __init__(
        self, folder: Path, *, style: str, apart: bool, pick_up_within_s: float, return_window_s: float
    ) -> None:
        self.store = folder / "shop.db"
        self.log = folder / "worker.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.kills = 0
        self.seconds_to_answer: list[float] = []
        self._environment = {
            **os.environ,
            **{f"MINUET_STYLES__{name.upper()}": its for name, its in STYLES[style].items()},
            "MINUET_STORE_PER_SERVICE": str(apart),
            "SHOP_PICK_UP_HOURS": str(pick_up_within_s / HOUR_S),
            "SHOP_RETURN_HOURS": str(return_window_s / HOUR_S),
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the process, and wait until it answers."""
        minuet = Path(sysconfig.get_path("scripts")) / "minuet"
        command = [sys.executable, str(minuet), "run", "examples.shop:app"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--store", str(self.store), "--port", str(self.port)],
                env=self._environment,
                cwd=Path(__file__).parents[3],
                stdout=log,
                stderr=log,
            )
        began = monotonic()
        async with Client(self.url) as client:
            while True:
                try:
                    await client.control.health()
                except MinuetError as error:
                    if self._process.poll() is not None or monotonic() - began > START_TIMEOUT_S:
                        raise RuntimeError(f"the worker does not answer; see {self.log}") from error
                    await asyncio.sleep(0.02)
                else:
                    self.seconds_to_answer.append(monotonic() - began)
                    return

    def kill(self) -> None:
        """Kill it without a word of warning: `kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def stop(self) -> int:
        """Tell it to stop, and give its exit code."""
        if self._process is None or self._process.poll() is not None:
            return -1
        self._process.terminate()
        try:
            return self._process.wait(timeout=START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
