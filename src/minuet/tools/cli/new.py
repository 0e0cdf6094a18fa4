"""`minuet new`: a small project that runs."""

from __future__ import annotations

from pathlib import Path

import click

from minuet.tools.output import escaped, print_line


@click.command()
@click.argument("name")
def new(*, name: str) -> None:
    """Make a small project that runs, in a folder NAME."""
    from minuet.tools.scaffold import make_project

    made = make_project(name, Path.cwd())
    print_line(f"created {escaped(name)}/ ({len(made)} files: {', '.join(map(str, made))})")
    print_line(f"Next: cd {escaped(name)} && minuet run")
