"""A share of `make kills`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

from tests.acceptance.kills import kill_often

SEED = 20_260_101


def test_ten_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    counts = asyncio.run(kill_often(tmp_path, 10, SEED, print))
    assert counts.wrong() == [], asdict(counts)
