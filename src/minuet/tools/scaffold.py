"""A small running program to begin with: a service with a table of its own, a workflow, a test, settings, a README."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Final

from minuet.errors import Conflict, DeclarationError

TEMPLATES: Final = Path(__file__).parent / "templates"
_SUFFIX: Final = ".txt"  # so that nobody's tools take a template for code


def make_project(name: str, parent: Path) -> list[Path]:
    """Write the files of a project into a new folder `name`; gives them, relative to it.

    Raises:
        DeclarationError: the name is no name of a module.
        Conflict: the folder is there, and is not empty.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise DeclarationError(
            f"{name!r} cannot be a module of Python", remedy="Take small letters, digits and _, as in my_shop"
        )
    folder = parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already", remedy="Take another name, or remove it")
    folder.mkdir(exist_ok=True)
    made = []
    for template in sorted(TEMPLATES.glob(f"*{_SUFFIX}")):
        file = Path(template.name.removesuffix(_SUFFIX).replace("NAME", name))
        text = template.read_text(encoding="utf-8").replace("{{name}}", name)
        (folder / file).write_text(text, encoding="utf-8")
        made.append(file)
    return made
