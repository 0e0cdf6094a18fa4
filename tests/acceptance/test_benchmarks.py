"""Each benchmark runs, at tiny sizes, and tells what it measured as `--json` promises. No time is tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMON = {"work", "system", "what", "durability", "size", "sizes", "rounds", "min", "max", "versions"}
ASKED = {
    "W1": {"per_s", "cpu_s_per_1000", "p50_ms", "p99_ms", "memory_mb", "p50_in_syncs"},
    "W2": {"per_s", "cpu_s_per_1000", "memory_mb"},
    "W3": {"secs", "memory_mb"},
    "W5": {"secs", "progress_secs", "in_syncs"},
    "W6": {"secs", "twice", "lost"},
    "W7": {"secs", "idle_mb", "import_ms"},
    "W8": {"per_s", "p50_ms", "commits_per_s"},
    "W9": {"per_s", "secs", "memory_mb", "runs_in_memory"},
}


def measured(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("work", ASKED)
def test_a_work_is_measured_at_two_sizes_and_told_as_json(work: str, tmp_path: Path) -> None:
    code, lines, told = measured(work, "--folder", str(tmp_path))
    assert code == 0, told
    results = [line for line in lines if "bar" not in line]
    assert all(line["work"] == work and line.keys() >= COMMON for line in results)
    assert ASKED[work] <= set().union(*results)
    measured_sizes: dict[tuple[str, str], set[int]] = {}
    for line in results:
        measured_sizes.setdefault((line["system"], line["what"]), set()).add(line["size"])
    assert all(len(sizes) >= 2 for sizes in measured_sizes.values())
    assert {"minuet", "python", "sqlite", "cores"} <= results[0]["versions"].keys()
    assert f"{work} " in told
    assert not list(tmp_path.iterdir())


def test_nothing_is_lost_by_a_kill_however_small_the_store(tmp_path: Path) -> None:
    _, lines, told = measured("W6", "--folder", str(tmp_path))
    results = [line for line in lines if "bar" not in line]
    assert [line["lost"] for line in results] == [0, 0], told
    assert all(line["started"] == line["size"] for line in results)


def test_an_unknown_work_is_refused() -> None:
    code, lines, told = measured("W99")
    assert code == 2
    assert not lines
    assert "W99" in told
