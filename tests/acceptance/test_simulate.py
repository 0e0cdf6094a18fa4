"""What users find with `@simulate` and `minuet simulate`: three mistakes, and nothing where they are corrected."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from examples.simulated import charging, pricing, refunding
from minuet import Service
from minuet.testing import Simulation, simulate
from minuet.testing.simulating import Options
from minuet.tools.cli.main import main
from minuet.workflows.workflow import Workflow

Scenario = Callable[[Simulation, type[Service]], Coroutine[Any, Any, None]]

MISTAKES = [
    pytest.param(charging.charged_once, charging.place, charging.Careless, "nobody is charged twice", id="charging"),
    pytest.param(refunding.nobody_is_needed, refunding.place, refunding.Forgetful, "ends by itself", id="refunding"),
    pytest.param(
        pricing.the_newest_price_is_shown, pricing.raise_often, pricing.Hasty, "shows the newest price", id="pricing"
    ),
]
CORRECTED = [
    pytest.param(charging.charged_once, charging.place, charging.Payments, id="charging"),
    pytest.param(refunding.nobody_is_needed, refunding.place, refunding.Payments, id="refunding"),
    pytest.param(pricing.the_newest_price_is_shown, pricing.raise_often, pricing.Catalogue, id="pricing"),
]
SEEDS = 40  # within which each mistake is found


def tried(scenario: Scenario, flow: Workflow[Any, Any, Any], service: type[Service], options: Options) -> None:
    @simulate(flow, faults="crash" if flow is refunding.place else "all")
    async def test(sim: Simulation) -> None:
        await scenario(sim, service)

    test(minuet_options=options)


@pytest.mark.parametrize(("scenario", "flow", "service", "told"), MISTAKES)
def test_a_mistake_is_found_and_can_be_repeated(
    scenario: Scenario, flow: Workflow[Any, Any, Any], service: type[Service], told: str
) -> None:
    with pytest.raises(AssertionError, match=told) as found:
        tried(scenario, flow, service, Options(seeds=SEEDS, test="test_it"))
    again = re.search(r"Again: pytest test_it --minuet-seed (\d+) --minuet-only (\S+)", str(found.value))
    assert again is not None
    only = () if again[2] == "none" else tuple(again[2].split(","))
    with pytest.raises(AssertionError, match=told):
        tried(scenario, flow, service, Options(seed=int(again[1]), only=only))


@pytest.mark.parametrize(("scenario", "flow", "service"), CORRECTED)
def test_what_is_corrected_is_not_found(
    scenario: Scenario, flow: Workflow[Any, Any, Any], service: type[Service]
) -> None:
    tried(scenario, flow, service, Options(seeds=SEEDS))


def test_the_command_line_tells_what_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "book_trip", "--app", "examples.first:app", "--input", '"Lisbon"']
    assert told([*words, "--seeds", "10", "--json"]) == 0
    tried = json.loads(capsys.readouterr().out)["simulation"]
    assert tried["worlds"] == 10
    assert tried["counts"]["crash"] > 0
    assert tried["failures"] == []
    assert sum(tried["states"].values()) == 10
    assert told([*words, "--seeds", "5"]) == 0
    assert "No violation." in capsys.readouterr().out


def test_the_command_line_repeats_what_has_failed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["simulate", "wait", "--app", "tests.acceptance.waiting:app", "--faults", "crash"]
    assert told([*words, "--seeds", "1", "--keep", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "does not end" in out
    again = re.search(r"Again: minuet (simulate .*)", out)
    assert again is not None
    assert told(shlex.split(again[1])) == 1
    capsys.readouterr()
    assert told([*shlex.split(again[1]), "--mermaid"]) == 1
    assert capsys.readouterr().out.startswith("sequenceDiagram")
    assert [f.name for f in tmp_path.iterdir()] == ["wait-0.case.json"]
    event = ["--event", "shop.picked-up", "o-1", '{"order": "o-1"}']
    assert told([*words, *event, "--seeds", "3"]) == 0


def test_what_cannot_be_simulated_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(["simulate", "nothing", "--app", "examples.first:app"]) == 3
    assert told(["simulate", "book_trip", "--app", "examples.first:app"]) == 2
    assert told(["simulate", "book_trip", "--app", "examples.first:app", "--input", "1", "--only", "crash#1"]) == 2
    assert told(["simulate", "book_trip", "--app", "examples.first:app", "--input", '"x"', "--faults", "rain"]) == 2
    assert "there is no fault 'rain'" in capsys.readouterr().err


def told(words: list[str]) -> int:
    with pytest.raises(SystemExit) as left:
        main(words)
    code = left.value.code
    assert isinstance(code, int)
    return code
