"""Ids: unique, growing, and readable again."""

from __future__ import annotations

from minuet.ids import RunIds, parse_run, run_text

NOW_MS = 1_767_225_600_000


def test_run_ids_grow_also_when_the_clock_stands_or_steps_back() -> None:
    ids = RunIds()
    made = [ids.next(NOW_MS - n % 3) for n in range(5_000)]
    assert made == sorted(set(made))


def test_run_ids_go_on_above_those_of_an_earlier_process_whose_clock_was_ahead() -> None:
    earlier, later = RunIds(node=3), RunIds()
    last = [earlier.next(NOW_MS + 60_000) for _ in range(10)][-1]
    later.follow(last)
    assert later.next(NOW_MS) > last
    later.follow(earlier.next(NOW_MS - 60_000))
    assert later.next(NOW_MS) > last


def test_a_run_id_is_read_from_its_text() -> None:
    run = RunIds().next(NOW_MS)
    assert parse_run(run_text(run)) == run
    assert parse_run("no id") is None
