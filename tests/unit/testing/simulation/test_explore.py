"""Many seeds are tried, in one process or several; what fails is made small, told, and kept."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from minuet.errors import InvalidPayload
from minuet.testing.simulation.cases import load_case
from minuet.testing.simulation.explore import explore, explore_trials
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.report import Report, report_json
from minuet.testing.simulation.trial import Trial
from minuet.testing.simulation.world import Verdict, World
from tests.unit.testing.simulation.small import APART, PLAIN, Striking, build, idle, some_runs, trial


async def red(world: World) -> None:
    """Be wrong in some of the worlds: where `red` strikes for a second time."""
    await some_runs(world)
    for _ in range(4):
        world.chance.strikes("red", 0.3)
    world.always(world.chance.counts["red"] < 2, "red struck twice")


def test_each_seed_is_tried_in_the_next_layout_and_counted() -> None:
    report = explore(some_runs, build, seeds=range(10, 16), layouts=[PLAIN, APART], faults=Faults(duplicate=0.5))
    assert report.is_clean
    assert (report.worlds, report.first_seed, report.last_seed, report.repeated) == (6, 10, 15, 1)
    assert report.states == {"completed": 6, "compensated": 6}
    assert report.layouts == {str(PLAIN): 3, str(APART): 3}
    assert report.counts["duplicate"] > 0
    assert report.steps > 1_000
    assert report.name == "some_runs"


def test_what_fails_is_made_small_and_repeats() -> None:
    report = explore(
        red,
        build,
        seeds=range(40),
        layouts=[PLAIN],
        faults=Faults(crash=0.2, unknown_applied=0.05),
        max_failures=2,
        ends_within_s=60,
    )
    assert len(report.failures) == 2
    assert report.worlds < 40
    for failure in report.failures:
        assert failure.violations[0].endswith("red struck twice")
        assert failure.only is not None
        assert [name.partition("#")[0] for name in failure.only] == ["red", "red"]
        again = Trial(scenario=red, build=build, seed=failure.seed, layout=PLAIN, faults=failure.faults)
        assert again.perform(failure.only).violations == failure.violations


def without_time(report: Report) -> dict[str, object]:
    return report_json(replace(report, took_ms=0))


def test_what_is_told_does_not_depend_on_the_number_of_processes() -> None:
    one, two = (
        explore(red, build, seeds=range(12), layouts=[PLAIN, APART], faults=Faults(delay=0.2), jobs=jobs)
        for jobs in (1, 2)
    )
    assert one.failures
    assert without_time(one) == without_time(two)


def test_worlds_of_what_no_other_process_can_import_are_tried_all_the_same() -> None:
    async def local(world: World) -> None:
        await red(world)

    named = explore(red, build, seeds=range(12), layouts=[PLAIN], faults=Faults(), name="red")
    unnamed = explore(local, build, seeds=range(12), layouts=[PLAIN], faults=Faults(), name="red", jobs=2)
    assert named.failures
    assert without_time(unnamed) == without_time(named)


def test_what_cannot_be_repeated_is_a_violation() -> None:
    count = itertools.count()

    async def another(world: World) -> None:
        world.note("test", "first")
        world.note("test", f"world {next(count)}")

    report = explore(another, build, seeds=range(3), layouts=[PLAIN], faults=Faults())
    (failure,) = report.failures
    assert failure.only is None
    (violation,) = failure.violations
    assert violation.startswith("not repeatable: performed twice, the worlds part at event ")
    assert violation.endswith("test: world 0, and then 0.000000 s test: world 1")


def test_worlds_of_which_one_goes_on_longer_are_not_the_same() -> None:
    count = itertools.count()

    async def longer(world: World) -> None:
        for _ in range(next(count)):
            world.note("test", "once more")

    report = explore(longer, build, seeds=[0], layouts=[PLAIN], faults=Faults())
    assert "once more" in report.failures[0].violations[0]


def test_progress_is_told_after_each_world() -> None:
    seen: list[int] = []
    explore(idle, build, seeds=range(5), layouts=[PLAIN], faults=Faults(), on_progress=lambda r: seen.append(r.worlds))
    assert seen == [1, 2, 3, 4, 5]


def test_an_interrupt_gives_what_there_is() -> None:
    def stop(report: Report) -> None:
        if report.worlds == 3:
            raise KeyboardInterrupt

    report = explore(idle, build, seeds=range(9), layouts=[PLAIN], faults=Faults(), on_progress=stop)
    assert report.is_interrupted
    assert report.worlds == 3


@dataclass(frozen=True)
class Mended:
    """The trials of a scenario that is wrong in every world."""

    scenario: Striking

    def __call__(self, seed: int) -> Trial:
        """Give the trial of a seed."""
        return trial(self.scenario, seed)


def test_a_failure_is_kept_and_replayed(tmp_path: Path) -> None:
    scenario = Striking(needed=("red#2",))
    report = explore_trials(Mended(scenario), seeds=[5], keep=tmp_path / "cases", name="a scenario")
    (file,) = (tmp_path / "cases").iterdir()
    assert file.name == "a-scenario-5.case.json"
    case = load_case(file)
    assert (case.scenario, case.seed, case.layout, case.only) == ("a scenario", 5, PLAIN, ("red#2",))
    assert case.what == report.failures[0].violations[0]
    again: Verdict = case.replay(scenario, build)
    assert again.violations
    assert not case.replay(Striking(needed=("nothing",)), build).violations


def test_a_file_that_is_no_case_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.case.json"
    for text in ("", "{}", '{"scenario": 1}'):
        file.write_text(text)
        with pytest.raises(InvalidPayload, match="no kept case"):
            load_case(file)


def test_faults_and_layouts_survive_being_kept(tmp_path: Path) -> None:
    faults = Faults(crash=0.25, delay=0.5)
    report = explore(red, build, seeds=range(40), layouts=[APART], faults=faults, max_failures=1, keep=tmp_path)
    (file,) = tmp_path.iterdir()
    case = load_case(file)
    assert (case.faults, case.layout) == (faults, APART)
    assert case.seed == report.failures[0].seed
