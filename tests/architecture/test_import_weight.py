"""`import minuet` stays light: servers, command line, drivers and test tools are loaded by whoever needs them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "anyio",
    "click",
    "httpcore",
    "httptools",
    "httpx",
    "hypothesis",
    "jinja2",
    "multipart",
    "pydantic",
    "pydantic_core",
    "pytest",
    "rich",
    "starlette",
    "uvicorn",
    "uvloop",
}


def loaded_by(statement: str) -> set[str]:
    """Give the first parts of the names of all modules that a fresh interpreter has loaded after a statement."""
    script = f"import json, sys; {statement}; json.dump(sorted(sys.modules), sys.stdout)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(result.stdout)}


def test_import_minuet_loads_no_server_no_driver_and_no_test_tool() -> None:
    assert loaded_by("import minuet") & HEAVY == set()


def test_the_testing_kit_imports_pytest_only_when_pytest_runs() -> None:
    assert loaded_by("import minuet.testing") & {"pytest", "hypothesis"} == set()


@pytest.mark.parametrize("library", ["click", "httpx", "starlette"])
def test_the_look_at_what_is_loaded_can_fail(library: str) -> None:
    assert library in loaded_by(f"import minuet, {library}") & HEAVY
