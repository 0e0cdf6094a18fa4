"""The import rule holds; the check of it can fail; and it leaves nothing out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.source import PACKAGE, ROOT, imports, modules, project

CONTRACTS: dict[str, dict[str, Any]] = {c["id"]: c for c in project()["tool"]["importlinter"]["contracts"]}

# Which module may import what is neither ours nor of the standard library, sqlite3 included. A trailing slash means
# all in that folder. What is not here, nobody has weighed.
LIBRARIES: dict[str, list[str]] = {
    "click": ["tools/"],
    "httpx": ["runtime/http_client.py"],
    "hypothesis": ["testing/"],
    "msgspec": [  # JSON
        *("contracts/", "engine/", "plans/", "runtime/", "server/", "stores/", "testing/", "tools/", "workflows/"),
    ],
    "pydantic": ["contracts/pydantic_model.py"],  # inside functions, once a model exists
    "pytest": ["testing/plugin.py"],
    "pytest_asyncio": ["testing/plugin.py"],
    "rich": ["tools/"],
    "sqlite3": ["stores/sqlite/", "testing/simulation/", "tools/doctor.py"],
    "starlette": ["server/", "tools/app.py"],
    "uvicorn": ["server/", "tools/"],
    "uvloop": ["server/", "tools/"],
}


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the package in `folder`/src by our own contracts."""
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    for contract in contracts:
        command += ["--contract", contract]
    # It puts its working directory first on sys.path: so that copy is read, and not the one that is installed.
    return subprocess.run(command, cwd=folder / "src", capture_output=True, text=True, check=False)


def test_the_import_rule_holds() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("contract", "planted_in", "line"),
    [
        ("layers", "engine/planted.py", "import minuet.runtime"),
        ("layers", "contracts/planted.py", "from minuet import workflows"),
        ("layers", "observe/planted.py", "import minuet.stores"),
        ("layers", "errors.py", "from minuet.contracts import action"),
        ("layers", "plans/planted.py", "def late() -> None:\n    import minuet.engine"),
        ("pure", "engine/planted.py", "import time"),
        ("pure", "workflows/planted.py", "from asyncio import sleep"),
        ("integer-time", "plans/planted.py", "from datetime import datetime"),
        ("no-user-code", "stores/sqlite/planted.py", "from minuet.workflows import reader"),
        ("no-user-code", "engine/planted.py", "import minuet.workflows.words"),
        ("front-door", "runtime/planted.py", "from minuet import App"),
        ("test-tools", "runtime/planted.py", "import pytest"),
        ("test-tools", "errors.py", "import hypothesis"),
    ],
)
def test_a_planted_import_is_caught(tmp_path: Path, contract: str, planted_in: str, line: str) -> None:
    copy = tmp_path / "src" / "minuet"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / planted_in).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    result = lint(tmp_path, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{CONTRACTS[contract]['name']} BROKEN" in " ".join(result.stdout.split())
    assert f"minuet.{planted_in.removesuffix('.py').replace('/', '.')}" in result.stdout


def test_a_folder_that_has_no_place_is_caught(tmp_path: Path) -> None:
    copy = tmp_path / "src" / "minuet"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "utils.py").touch()
    result = lint(tmp_path, "layers")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "minuet.utils" in result.stdout


def test_the_layers_are_all_folders_and_all_modules() -> None:
    here = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {"__init__"}
    assert CONTRACTS["layers"]["exhaustive"] is True
    assert layers() - {"brokers"} <= here <= layers()


def test_only_testing_and_tools_know_test_tools() -> None:
    sources = {name.removeprefix("minuet.") for name in CONTRACTS["test-tools"]["source_modules"]}
    assert sources == present(layers() - {"testing", "tools"})


def test_whoever_is_given_plans_never_meets_the_users_function() -> None:
    sources = {name.removeprefix("minuet.") for name in CONTRACTS["no-user-code"]["source_modules"]}
    assert sources == present({"plans", "engine", "stores", "brokers"})


def test_each_backend_is_in_the_contract_that_keeps_backends_apart() -> None:
    stores = {f"minuet.stores.{p.parent.name}" for p in (PACKAGE / "stores").glob("*/__init__.py")}
    own = {"__init__", "opening", "embedded", "embedded_group"}
    brokers = {f"minuet.brokers.{p.stem}" for p in (PACKAGE / "brokers").glob("*.py") if p.stem not in own}
    assert set(CONTRACTS["backends"]["modules"]) == stores | brokers


def test_each_library_is_imported_only_where_it_has_its_place() -> None:
    wrong = [
        f"src/minuet/{module.path}:{use.line} imports {use.name}"
        for module in modules()
        for use in imports(module.tree)
        if not has_its_place(use.name.partition(".")[0], module.path)
    ]
    assert wrong == []


def has_its_place(library: str, path: str) -> bool:
    if library not in LIBRARIES:
        return library == "minuet" or library in sys.stdlib_module_names
    return any(path.startswith(place) if place.endswith("/") else path == place for place in LIBRARIES[library])


def layers() -> set[str]:
    return {name.strip(" ()") for layer in CONTRACTS["layers"]["layers"] for name in layer.replace(":", "|").split("|")}


def present(names: set[str]) -> set[str]:
    """Keep the names that are a folder or module of the package by now."""
    return {name for name in names if (PACKAGE / name / "__init__.py").exists() or (PACKAGE / f"{name}.py").exists()}
