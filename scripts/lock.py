"""Compile the lock files anew from pyproject.toml. Standard library only.

    python3 scripts/lock.py               keeps each version that still fits
    python3 scripts/lock.py --upgrade     takes the newest of everything

The lock files are universal (markers for every supported Python and system), pinned by hash, and hold no address:
where packages come from is the business of whoever installs them. In what both hold, they agree.
Compiled by uv: the one on PATH, else one that pip puts into a temporary environment.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"  # only where none is on PATH
LOCK = "requirements.lock"
LOCK_BENCH = "requirements-bench.lock"


def main() -> int:
    options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="minuet-lock-") as folder:
        uv = shutil.which("uv") or _install_uv(Path(folder))
        _compile(uv, "pyproject.toml", "--all-extras", "--group", "dev", *options, output=LOCK)
        _compile(uv, "--group", "pyproject.toml:bench", "--constraints", LOCK, *options, output=LOCK_BENCH)
    addresses = [name for name in (LOCK, LOCK_BENCH) if "://" in (ROOT / name).read_text(encoding="utf-8")]
    if addresses:
        print(f"minuet: there is an address in {', '.join(addresses)}; do not commit it", file=sys.stderr)
    return 1 if addresses else 0


def _compile(uv: str, *arguments: str, output: str) -> None:
    fixed = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--quiet"]
    subprocess.run([uv, "pip", "compile", *fixed, *arguments, "--output-file", output], cwd=ROOT, check=True)
    lines = (ROOT / output).read_text(encoding="utf-8").splitlines()
    print(f"{output}: {sum('==' in line and not line.startswith(' ') for line in lines)} packages")


def _install_uv(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV], check=True)
    return str(folder / "bin" / "uv")


if __name__ == "__main__":
    sys.exit(main())
