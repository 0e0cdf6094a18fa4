"""Make the virtual environment .venv from a lock file. Standard library only, Python 3.11 or later.

    python3 scripts/bootstrap.py            what all verbs but one need, and the project itself, editable
    python3 scripts/bootstrap.py --bench    the peers that benchmarks are compared with, on top

Uses `uv` when it is on PATH, else pip. Hashes are checked either way. What was done is noted in a stamp, which is
newer than the lock file from then on; the Makefile compares the two. Two verbs at once wait for each other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PYTHON_MIN = (3, 11)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the virtual environment from a lock file.")
    parser.add_argument("--bench", action="store_true", help="install requirements-bench.lock on top")
    bench = parser.parse_args().bench
    lock = ROOT / ("requirements-bench.lock" if bench else "requirements.lock")
    stamp = VENV / (".stamp-bench" if bench else ".stamp")
    with _alone():
        if _is_fresh(stamp, after=[lock, VENV / ".stamp"] if bench else [lock, ROOT / "pyproject.toml"]):
            return 0  # another verb did it while this one waited
        try:
            _make(lock, bench=bench)
        except subprocess.CalledProcessError as error:
            _say(f"could not make {VENV.name}: exit code {error.returncode} of {' '.join(map(str, error.cmd[:4]))} …")
            return 1
        stamp.touch()
    return 0


def _make(lock: Path, *, bench: bool) -> None:
    uv = shutil.which("uv")
    if not _is_usable():
        _say(f"making {VENV.name} with Python {sys.version.split()[0]}")
        if uv:
            _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV))
        else:
            venv.create(VENV, clear=True, with_pip=True, symlinks=os.name != "nt")
    _say(f"installing {lock.name} with {'uv' if uv else 'pip; the first time takes up to a minute'}")
    if uv:
        install = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    else:
        install = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        if not _succeeds(*install[:3], "--version"):
            _run(str(PYTHON), "-m", "ensurepip")  # the environment was made by uv, which is gone by now
    _run(*install, "--require-hashes", "-r", str(lock))
    if not bench:
        _run(*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def _is_usable() -> bool:
    """Tell whether the environment is there and runs: its interpreter may be gone, its folder moved."""
    check = f"import sys; sys.exit(sys.version_info < {PYTHON_MIN} or sys.prefix != {str(VENV)!r})"
    return PYTHON.exists() and _succeeds(str(PYTHON), "-c", check)


def _is_fresh(stamp: Path, *, after: list[Path]) -> bool:
    if not (stamp.exists() and _is_usable()):
        return False
    return all(path.exists() and path.stat().st_mtime <= stamp.stat().st_mtime for path in after)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _say(text: str) -> None:
    print(f"minuet: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process makes the environment."""
    try:
        import fcntl
    except ImportError:  # Windows: nobody else is expected
        yield
        return
    descriptor = os.open(ROOT / "scripts", os.O_RDONLY)  # a folder can be locked, so no file is left behind
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
