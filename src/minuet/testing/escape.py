"""What would leave a simulation behind the event loop's back is refused: sockets, threads, other processes.

A simulated process is not in the world: a blocking call to a real service would be answered in real time, once, by
something that no seed can repeat. Python tells of such calls where they are made (`sys.addaudithook`).
"""

from __future__ import annotations

import sys
from typing import Any, Final

from minuet.testing.simulation.loop import EscapedSimulation, current_process

REMEDY: Final = "Give the service a client that stays in the simulation: a fake of your own, or sim.outside(…)"
_REFUSED: Final = frozenset({
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.fork",
    "os.posix_spawn", "_thread.start_new_thread", "_thread.start_joinable_thread",
})  # fmt: skip
_watching: list[bool] = []  # a hook cannot be taken away, so there is one


def watch() -> None:
    """Refuse from now on what simulated processes must not do; nobody else is concerned."""
    if not _watching:
        _watching.append(True)
        sys.addaudithook(_look)


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _REFUSED and current_process() is not None:
        raise EscapedSimulation(f"{event}{_shown(arguments)} would leave the simulation")


def _shown(arguments: tuple[Any, ...]) -> str:
    """Give the arguments as far as they are plain: an address, a host, a command."""
    plain = [repr(a) for a in arguments if isinstance(a, str | bytes | int | tuple | list)]
    return f"({', '.join(plain)})"
