"""The process that is measured: `python -m benchmarks.one MODULE:FUNCTION ARGUMENTS` (JSON) prints figures (JSON)."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main() -> None:
    """Call the function, and print what it answers as the last line."""
    program, arguments = sys.argv[1:]
    module, _, function = program.partition(":")
    given = json.loads(arguments)
    for name in ("folder", "shared"):
        given[name] = Path(given[name])
    figures = getattr(importlib.import_module(module), function)(**given)
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
