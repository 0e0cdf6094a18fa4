"""Named queries: SQL lives in files, one a noun; a line `-- name: load_run` begins a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)$")


def load_queries(folder: Path) -> Mapping[str, str]:
    """Read all queries of a folder of `.sql` files, by name.

    A name stands for one query in the whole folder, so that the text behind a name in the code is found by
    searching for it. Text before the first name of a file, or a second query of one name, is a mistake of ours.
    """
    queries: dict[str, str] = {}
    for file in sorted(folder.glob("*.sql")):
        name = None
        lines: list[str] = []
        for line in [*file.read_text(encoding="utf-8").splitlines(), "-- name: end"]:
            found = _NAME.match(line)
            if found is None:
                lines.append(line)
                continue
            text = "\n".join(lines).strip().removesuffix(";")
            if name is not None:
                assert text, f"{file.name}: {name} is empty"
                assert name not in queries, f"{file.name}: there is another {name}"
                queries[name] = text
            else:
                assert not text, f"{file.name}: text before the first name"
            name = found[1]
            lines = []
    return queries
