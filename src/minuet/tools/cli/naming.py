"""How a verb names a run: by its id, or by its business key (and the workflow, where a key is not unique)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from minuet.runtime.control import Control


@dataclass(frozen=True, slots=True, kw_only=True)
class RunName:
    """A run, as a user names it: exactly one of `run` and `key` is there."""

    run: str | None = None
    key: str | None = None
    workflow: str | None = None

    async def find(self, control: Control) -> str:
        """Give the id of the run. Raises NotFound."""
        if self.run is not None:
            return self.run
        assert self.key is not None
        return (await control.find(self.key, self.workflow)).run


key_option = click.option("--key", help="The run's business key, instead of its id.")
workflow_option = click.option("--workflow", help="The key's workflow; the newest run of any by default.")


def named(words: tuple[str, ...], key: str | None, workflow: str | None) -> RunName:
    """Read `RUN`, or `--key K`.

    Raises:
        click.UsageError: both, or neither.
    """
    if len(words) + (key is not None) != 1:
        raise click.UsageError("Name one run: RUN, or --key KEY.")
    if workflow is not None and key is None:
        raise click.UsageError("--workflow goes with --key; a run's id says it already.")
    return RunName(run=words[0] if words else None, key=key, workflow=workflow)
