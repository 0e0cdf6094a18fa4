"""The lock files are exact, hashed, free of addresses, and agree with `pyproject.toml` and each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, project

LOCK = "requirements.lock"
LOCK_BENCH = "requirements-bench.lock"


def entries(name: str) -> list[str]:
    """Give each requirement of a lock file with its hashes, on one line, without comments."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


def pins(name: str) -> dict[str, str]:
    found = (Requirement(entry.partition(" --hash")[0].strip()) for entry in entries(name))
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in found}


def declared(*groups: str, core: bool) -> Iterator[Requirement]:
    """Give the requirements of dependency groups, and with `core` those of the package and of all its extras."""
    texts = [text for group in groups for text in project()["dependency-groups"][group]]
    if core:
        texts += project()["project"]["dependencies"]
        texts += [text for extra in project()["project"]["optional-dependencies"].values() for text in extra]
    yield from (r for r in map(Requirement, texts) if r.name != "minuet")


@pytest.mark.parametrize("name", [LOCK, LOCK_BENCH])
def test_a_lock_file_holds_no_address(name: str) -> None:
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [LOCK, LOCK_BENCH])
def test_each_requirement_is_exact_and_hashed(name: str) -> None:
    wrong = [e for e in entries(name) if not re.match(r"[\w.-]+==[^\s;]+ .*--hash=sha256:[0-9a-f]{64}", e)]
    assert wrong == []


def test_the_lock_fits_what_the_project_asks_for() -> None:
    """If not, `make lock` was forgotten."""
    locked = pins(LOCK)
    assert [str(r) for r in declared("dev", core=True) if not r.specifier.contains(locked.get(r.name, "0"))] == []


def test_the_lock_of_the_bench_fits_what_the_project_asks_for() -> None:
    locked = pins(LOCK_BENCH)
    assert [str(r) for r in declared("bench", core=False) if not r.specifier.contains(locked.get(r.name, "0"))] == []


def test_the_lock_files_agree_in_what_both_hold() -> None:
    locked, bench = pins(LOCK), pins(LOCK_BENCH)
    assert {name: bench[name] for name in bench.keys() & locked.keys()} == {
        name: locked[name] for name in bench.keys() & locked.keys()
    }


def test_no_lock_file_that_records_addresses_is_kept() -> None:
    assert [name for name in ("uv.lock", "pylock.toml", "poetry.lock") if (ROOT / name).exists()] == []
