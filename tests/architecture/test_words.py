"""Style is decided in one file of `plans`. Below it nobody knows it, so nobody can treat the two differently."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source import PACKAGE

STYLES = re.compile("orchestration|choreography", re.IGNORECASE)


@pytest.mark.parametrize("folder", ["engine", "stores", "brokers"])
def test_the_words_of_styles_do_not_occur_below_plans(folder: str) -> None:
    files = [p for p in sorted((PACKAGE / folder).rglob("*")) if p.suffix in {".py", ".sql"}]
    assert files or folder == "brokers"  # brokers come later
    found = [
        f"{path.relative_to(PACKAGE)}:{number} {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if STYLES.search(line)
    ]
    assert found == []
