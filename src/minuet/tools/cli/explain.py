"""`minuet explain`: what a code means, and what to do."""

from __future__ import annotations

import click

from minuet.tools.output import paint, print_json, print_line, print_table


@click.command(short_help="Say what a code means: M006, key-conflict.")
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
def explain(*, code: str | None, as_json: bool) -> None:
    """Say what CODE means: M006, key-conflict; without it, list all."""
    from minuet.tools.explanation import codes, explanation, title

    if code is None:
        found = {name: title(name) for name in codes()}
        if as_json:
            print_json({"codes": found})
        else:
            print_table((), found.items())
        return
    text = explanation(code)
    if as_json:
        print_json({"text": text})
        return
    head, _, rest = text.rstrip().partition("\n")
    print_line(paint(head.removeprefix("# "), "strong"))
    print_line(rest)
