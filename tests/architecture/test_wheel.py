"""The wheel holds what the package needs, and works where nothing else of the project is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, project


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that has the wheel, and nothing of this folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-deps", "--no-index", "--no-input"]
    subprocess.run([*pip, str(wheel)], check=True)
    return folder


def run(elsewhere: Path, *command: str) -> str:
    # The libraries are borrowed from here. A folder on PYTHONPATH is not searched for .pth files, so the editable
    # install of this folder stays behind.
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    result = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def test_the_wheel_is_for_any_system(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {p.relative_to(PACKAGE.parent).as_posix() for p in PACKAGE.rglob("*") if p.is_file()}
    assert held == {name for name in files if "__pycache__" not in name}


def test_the_wheel_holds_sql_and_the_mark_of_typing_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "minuet/py.typed" in names
    assert any(name.startswith("minuet/stores/sqlite/migrations/") and name.endswith(".sql") for name in names)
    assert any(name.startswith("minuet/stores/sqlite/queries/") and name.endswith(".sql") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_what_was_installed_is_found_elsewhere(elsewhere: Path) -> None:
    script = "import minuet, pathlib; print(pathlib.Path(minuet.__file__).resolve().parent)"
    installed = Path(run(elsewhere, str(elsewhere / "bin" / "python"), "-c", script))
    assert installed.is_relative_to(elsewhere.resolve())
    assert (installed / "py.typed").exists()
    assert list(installed.glob("stores/sqlite/**/*.sql"))


def test_the_command_says_its_version(elsewhere: Path) -> None:
    assert project()["project"]["version"] in run(elsewhere, str(elsewhere / "bin" / "minuet"), "version")
