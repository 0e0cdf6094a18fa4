"""Failures that are kept: a file for each, with which the same world is made again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from minuet.errors import InvalidPayload
from minuet.runtime.settings import Settings
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.trial import Trial
from minuet.testing.simulation.world import ENDS_WITHIN_S, Build, Layout, Scenario, Verdict

SUFFIX = ".case.json"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One failure. `scenario`: its name; `only`: what has to go wrong, None: all that does; `what`: the violation."""

    scenario: str
    seed: int
    layout: Layout
    faults: Faults
    only: tuple[str, ...] | None
    what: str

    def trial(
        self,
        scenario: Scenario,
        build: Build,
        *,
        settings: Settings | None = None,
        ends_within_s: float = ENDS_WITHIN_S,
    ) -> Trial:
        """Give what is to be tried, for the scenario that goes by this name."""
        return Trial(
            scenario=scenario,
            build=build,
            seed=self.seed,
            layout=self.layout,
            faults=self.faults,
            settings=settings,
            ends_within_s=ends_within_s,
        )

    def replay(self, scenario: Scenario, build: Build, *, settings: Settings | None = None) -> Verdict:
        """Make its world again; without violations, it is mended."""
        return self.trial(scenario, build, settings=settings).perform(self.only)

    def save(self, folder: Path) -> Path:
        """Write it into a folder, under the name of its scenario and its seed; gives the file."""
        folder.mkdir(parents=True, exist_ok=True)
        readable = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.scenario) or "case"
        file = folder / f"{readable}-{self.seed}{SUFFIX}"
        kept = asdict(self) | {"faults": {name: rate for name, rate in asdict(self.faults).items() if rate}}
        file.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
        return file


class _Form(msgspec.Struct, forbid_unknown_fields=True):
    scenario: str
    seed: int
    layout: dict[str, Any]
    faults: dict[str, float]
    only: tuple[str, ...] | None
    what: str


def load_case(file: Path) -> Case:
    """Read a case.

    Raises:
        InvalidPayload: the file is none.
    """
    try:
        form = msgspec.json.decode(file.read_bytes(), type=_Form)
        given = {name: getattr(form, name) for name in form.__struct_fields__}
        given |= {"layout": msgspec.convert(form.layout, Layout), "faults": Faults(**form.faults)}
        return Case(**{f.name: given[f.name] for f in fields(Case)})
    except (OSError, msgspec.MsgspecError, TypeError) as e:
        raise InvalidPayload(f"{file.name} is no kept case: {e}", remedy="Keep it anew from its seed") from e
