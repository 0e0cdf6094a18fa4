"""A process that dies between an action and its record does it again, as the same; and what else causes it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.process import ROOT


def charge(folder: Path, *dies: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.acceptance.charging", str(folder / "s.db"), str(folder / "charges"), *dies]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("dies", ["charge", "book"])
def test_after_a_crash_the_same_cause_is_repeated_and_another_is_not(dies: str, tmp_path: Path) -> None:
    assert charge(tmp_path, dies).returncode == 9
    done = charge(tmp_path)
    assert done.returncode == 0, done.stderr
    paid, *letters, entries = done.stdout.splitlines()
    assert sorted(letters) == ["payments.also_on_placed second-cause", "payments.on_placed second-cause"]
    assert entries == f"entries {paid.removeprefix('paid by ')}", "what was written is there once"
    charges = (tmp_path / "charges").read_text().splitlines()
    assert len(charges) == (2 if dies == "charge" else 1), "outside it may be done twice"
    assert len(set(charges)) == 1, "but under one op_key"
