"""`minuet version`."""

from __future__ import annotations

import click

from minuet.tools.output import print_json, print_line


@click.command(short_help="Print the versions of what matters.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
def version(*, as_json: bool) -> None:
    """Print the versions of everything that can be asked about."""
    from minuet.tools.doctor import versions

    found = versions()
    if as_json:
        print_json(found)
        return
    print_line(
        f"minuet {found['minuet']}, python {found['python']}, sqlite {found['sqlite']}, "
        f"plan format {found['plan_format']}, store schema {found['store_schema']}"
    )
