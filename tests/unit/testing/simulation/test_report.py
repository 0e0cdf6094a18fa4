"""What exploring has shown is told as text, as a diagram and as data."""

from __future__ import annotations

import json
from collections import Counter

from minuet.testing.simulation.faults import FAULTS, Faults
from minuet.testing.simulation.report import (
    STORY_MAX,
    Failure,
    Report,
    report_json,
    report_text,
    story_mermaid,
    story_text,
    zero_faults,
)
from minuet.testing.simulation.trial import Trial
from minuet.testing.simulation.world import Layout, Verdict
from tests.unit.testing.simulation.small import APART, build, some_runs

STORY = [
    (0.5, "home/0.1", "is up"),
    (1.0, "home/0.1", "run 36VPVAMCR0000: begun"),
    (1.25, "first/0.1", "run 36VPVAMCR0000: 1 ok, -> running"),
    (1.5, "home/0", "!! crash"),
    (1.75, "home/0.2", "run 36VPVAMCR0000: 1 ok"),
]


def verdict(seed: int, *violations: str, story: list[tuple[float, str, str]] | None = None) -> Verdict:
    return Verdict(
        seed=seed,
        layout=Layout(),
        violations=list(violations),
        counts={"crash": 2, "commits": 10, "odd_thing": 1},
        struck=["crash#1", "crash#2"],
        story=STORY if story is None else story,
        trace="",
        steps=1_000,
        seconds=1_800.0,
        states={"completed": 2, "compensated": 1},
    )


def report(*failures: Failure) -> Report:
    made = Report(name="shop", failures=list(failures))
    for seed in (3, 4):
        made.add(verdict(seed), is_repeated=seed == 3)
    made.took_ms = 4_000
    return made


def failure(*violations: str, only: tuple[str, ...] | None = ("crash#2",), seed: int = 4) -> Failure:
    return Failure.of(verdict(seed, *(violations or ("I4: wrong",))), Faults(crash=1), only=only, tried=7)


def test_what_was_tried_is_a_table() -> None:
    lines = report_text(report()).splitlines()
    assert lines[0].split() == ["seeds", "3", "to", "4"]
    told = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in lines if "  " in line}
    assert told["worlds"] == "2 (1 of them twice)"
    assert told["runs"] == "6: 2 compensated, 4 completed"
    assert told["steps"] == "2,000"
    assert told["simulated"] == "1.0 hours"
    assert told["took"] == "4.0 s, 0.5 seeds/s"
    assert (told["crashes"], told["commits"], told["odd thing"]) == ("4", "20", "2")
    assert lines[-1] == "No violation."
    assert len({line.index(line.split("  ", 1)[1].strip()) for line in lines if "  " in line}) == 1


def test_faults_that_did_not_happen_are_named() -> None:
    faults = Faults(crash=0.1, pause=0.2, duplicate=0.1)
    assert zero_faults(report(), faults) == ["pause", "duplicate"]
    assert "was not tried: pauses, duplicates." in report_text(report(), faults=faults)
    assert zero_faults(report(), Faults(crash=0.1)) == []
    assert "not tried" not in report_text(report(), faults=Faults(crash=0.1))


def test_every_fault_has_a_name_in_the_table() -> None:
    made = report()
    made.counts = Counter(dict.fromkeys(FAULTS, 1))
    assert all(name not in report_text(made, faults=Faults.all()) for name in FAULTS if "_" in name)


def test_a_failure_is_told_with_the_line_that_repeats_it() -> None:
    text = report_text(report(failure("I4: wrong", *(f"I7: {n}" for n in range(12)))))
    assert "Seed 4 (as written; one store, 1 worker(s)):\n  I4: wrong\n  I7: 0\n" in text
    assert "  and 3 more\n" in text
    assert "It takes (found in 7 worlds): crash#2\n" in text
    assert "Again: make sim SEED=4 ONLY='crash#2'\n" in text
    assert "No violation." not in text


def test_the_line_is_as_the_caller_wants_it() -> None:
    assert failure(only=("order", "crash#2")).repeats("minuet simulate") == (
        "minuet simulate SEED=4 ONLY='order,crash#2'"
    )
    assert failure(only=()).repeats() == "make sim SEED=4 ONLY=none"
    assert failure(only=None).repeats() == "make sim SEED=4"
    text = report_text(report(failure(only=())), repeats=lambda f: f"pytest --minuet-seed {f.seed}")
    assert "Again: pytest --minuet-seed 4\n" in text
    assert "It takes (found in 7 worlds): nothing: it fails without any fault" in text


def test_the_shortest_story_is_told() -> None:
    long = failure(seed=3)
    long.verdict.story = [*STORY, *STORY]
    made = report(long, failure(seed=4))
    assert made.smallest is made.failures[1]
    assert "The shortest story, of seed 4:\n\n" in report_text(made)
    assert len(story_text(STORY).splitlines()) == len(STORY)
    assert "   1.250000 s  first/0.1  run 36VPVAMCR0000: 1 ok, -> running" in story_text(STORY).splitlines()[2]


def test_a_long_story_is_folded_in_its_middle() -> None:
    story = [(float(n), "home/0.1", f"event {n}") for n in range(1_000)]
    lines = story_text(story).splitlines()
    assert len(lines) == STORY_MAX + 1
    assert lines[STORY_MAX // 2].strip() == f"… {1_000 - STORY_MAX} more …"
    assert "event 999" in lines[-1]
    assert f"{1_000 - STORY_MAX} more are not drawn" in story_mermaid(story)


def test_the_diagram_has_an_arrow_where_one_participant_heard_of_what_another_recorded() -> None:
    lines = [line.strip() for line in story_mermaid(STORY).splitlines()]
    assert lines == [
        "sequenceDiagram",
        "participant p0 as home/0",
        "participant p1 as first/0",
        "Note over p0: 0.500 s is up",
        "Note over p0: 1.000 s begun",
        "Note over p1: 1.250 s -#62; running, 1 ok",
        "Note over p0: 1.500 s !! crash",
        "p1->>p0: 1 ok",
    ]


def test_the_story_of_a_real_world_is_drawn() -> None:
    found = Trial(scenario=some_runs, build=build, seed=1, layout=APART, faults=Faults()).perform()
    drawn = story_mermaid(found.story)
    assert "participant p0 as " in drawn
    assert drawn.count("->>") == 5
    assert "2 rejected:no" in story_text(found.story)


def test_the_report_is_plain_data_too() -> None:
    told = json.loads(json.dumps(report_json(report(failure()))))
    assert told["seeds"] == [3, 4]
    assert told["counts"]["crash"] == 4
    assert told["states"] == {"completed": 4, "compensated": 2}
    (failed,) = told["failures"]
    assert failed["violations"] == ["I4: wrong"]
    assert (failed["only"], failed["again"]) == (["crash#2"], "make sim SEED=4 ONLY='crash#2'")
    assert failed["faults"] == {"crash": 1}
    assert len(failed["story"]) == len(STORY)
    assert told["mermaid"].startswith("sequenceDiagram")


def test_a_report_of_nothing_can_be_told() -> None:
    assert report_text(Report()).startswith("seeds")
    assert report_json(Report())["failures"] == []
