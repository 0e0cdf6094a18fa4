"""`minuet doctor`: what is installed, what is reachable, and what is set."""

from __future__ import annotations

import click

from minuet.tools.cli.reach import Place, perform, reaching, settings_of, store_of
from minuet.tools.output import Exit, escaped, paint, print_json, print_line, print_table

_TONES = {"ok": "good", "note": "odd", "bad": "bad"}


@click.command()
@click.option("--settings", "with_settings", is_flag=True, help="Each setting, its value, and where that came from.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs; always with the settings.")
@reaching
def doctor(*, place: Place, with_settings: bool, as_json: bool) -> None:
    """Look at versions, store, lock and settings."""
    from dataclasses import asdict, replace

    from minuet.stores.opening import store_file
    from minuet.tools.doctor import diagnose, settings_table, versions

    settings = settings_of(place)
    if settings.sources["store_url"] == "default" and store_file(settings.store_url) is not None:
        found = store_of(settings)
        settings = replace(settings, store_url=f"sqlite:///{found}")
    checks = perform(diagnose(settings))
    is_well = all(check.verdict != "bad" for check in checks)
    if as_json:
        print_json(
            {
                "well": is_well,
                "versions": versions(),
                "checks": [asdict(check) for check in checks],
                "settings": settings_table(settings),
            }
        )
    else:
        for check in checks:
            verdict = paint(f"{check.verdict:4}", _TONES[check.verdict])
            print_line(f"{check.name:9}{verdict}  {escaped(check.message)}")
            if check.remedy:
                print_line(f"{'':15}-> {escaped(check.remedy)}")
        if with_settings:
            print_line()
            rows = [
                [str(row[name]) for name in ("name", "value", "source", "meaning")] for row in settings_table(settings)
            ]
            print_table(("SETTING", "VALUE", "FROM", "MEANS"), rows)
    if not is_well:
        raise click.exceptions.Exit(Exit.FAILED)
