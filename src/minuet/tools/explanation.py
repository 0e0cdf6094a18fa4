"""What a code means: one text file each in `explanations`, kept in the package, so that it works offline."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from minuet.errors import NotFound

FOLDER: Final = Path(__file__).parent / "explanations"


def codes() -> list[str]:
    """Give all codes that are explained, in order."""
    return sorted((path.stem for path in FOLDER.glob("*.md")), key=lambda code: (code[:1].islower(), code))


def explanation(code: str) -> str:
    """Give the explanation of a code, in Markdown. The first line is its title.

    Raises:
        NotFound: no such code is known.
    """
    known = {name.casefold(): name for name in codes()}
    if (name := known.get(code.strip().casefold())) is None:
        close = difflib.get_close_matches(code.casefold(), known, n=1, cutoff=0.5)
        hint = f"Did you mean {known[close[0]]}?" if close else "List them: minuet explain"
        raise NotFound(f"no code {code!r} is known", remedy=hint, explained=code)
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def title(code: str) -> str:
    """Give the first line of an explanation, without its code."""
    return explanation(code).partition("\n")[0].removeprefix(f"# {code}: ")
