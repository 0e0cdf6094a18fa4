"""A program in a process of its own, as a user starts it; to be killed, stopped, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from time import monotonic

from minuet.errors import MinuetError
from minuet.runtime.http_client import HttpControl

MINUET = Path(sysconfig.get_path("scripts")) / "minuet"
ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0


class Process:
    """`minuet run APP [WORDS]` over one SQLite file; it listens at the same port each time."""

    def __init__(self, app: str, store: Path, *words: str, **environment: str) -> None:
        self.store = store
        self.log = store.with_suffix(".log")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.began_s = 0.0
        self._words = ["run", app, "--store", str(store), "--port", str(self.port), *words]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Say whether it runs."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start it; it does not answer yet."""
        assert not self.is_alive
        self.began_s = monotonic()
        self._process = self._popen()

    async def second(self) -> int:
        """Start another one over the same file, which is to end by itself, and give its exit code."""
        other = self._popen()
        try:
            return await _ended(other)
        finally:
            if other.poll() is None:
                other.kill()
                other.wait()

    async def answers(self) -> None:
        """Wait until it answers."""
        async with HttpControl(self.url) as control:
            while True:
                try:
                    await control.health()
                except MinuetError as error:
                    if not self.is_alive or monotonic() - self.began_s > START_TIMEOUT_S:
                        raise RuntimeError(f"it does not answer:\n{self.said()}") from error
                    await asyncio.sleep(0.01)
                else:
                    return

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.spawn()
        await self.answers()

    def kill(self) -> None:
        """Kill it without a word: `kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop it where it is: `kill -STOP`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on as if nothing had happened: `kill -CONT`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end, and give its exit code."""
        assert self._process is not None
        try:
            return await _ended(self._process)
        except TimeoutError:
            raise TimeoutError(f"it does not end:\n{self.said()}") from None

    async def stop(self) -> int:
        """Tell it to stop, and give its exit code."""
        self.terminate()
        return await self.ended()

    def close(self) -> None:
        """See to it that nothing is left, whatever has happened."""
        if self.is_alive:
            self.kill()

    def said(self) -> str:
        """Give the end of what it printed and logged."""
        return self.log.read_text(errors="replace")[-4_000:] if self.log.exists() else ""

    def _popen(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(MINUET), *self._words],
                env={**os.environ, **self._environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )


async def _ended(process: subprocess.Popen[bytes]) -> int:
    async with asyncio.timeout(END_TIMEOUT_S):
        while (code := process.poll()) is None:
            await asyncio.sleep(0.02)
        return code


def free_port() -> int:
    """Give a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
