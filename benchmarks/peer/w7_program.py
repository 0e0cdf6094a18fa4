"""The program of DBOS that W7 starts: as a user writes it. Arguments: store, how many runs, seconds idle."""

import json
import sys
import time
from pathlib import Path

from dbos import DBOS


@DBOS.step()
def reserve(order: str) -> str:
    return order + "n" * 90


@DBOS.step()
def charge(reserved: str) -> str:
    return reserved


@DBOS.step()
def ship(charged: str) -> str:
    return charged


@DBOS.workflow()
def sequence(order: str) -> str:
    return ship(charge(reserve(order)))


def main(store: str, runs: int, idle_s: float) -> None:
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{store}", "log_level": "ERROR"})
    DBOS.launch()
    for i in range(runs):
        sequence(f"{i:08}")
    ended_at = time.monotonic()
    time.sleep(idle_s)
    print(json.dumps({"ended_at": ended_at, "idle_mb": resident_mb()}))
    DBOS.destroy()


def resident_mb() -> float:
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
