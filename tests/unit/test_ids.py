"""Ids: unique, growing, and readable again."""

from __future__ import annotations

from minuet.ids import RunIds, first_run, parse_run, run_text, shard_of, shard_of_name

NOW_MS = 1_767_225_600_000


def test_run_ids_grow_also_when_the_clock_stands_or_steps_back() -> None:
    ids = RunIds()
    made = [ids.next(NOW_MS - n % 3) for n in range(5_000)]
    assert made == sorted(set(made))


def test_run_ids_go_on_above_those_of_an_earlier_process_whose_clock_was_ahead() -> None:
    earlier, later = RunIds(), RunIds()
    last = [earlier.next(NOW_MS + 60_000, 3) for _ in range(10)][-1]
    later.follow(last)
    assert later.next(NOW_MS, 0) > last
    later.follow(RunIds().next(NOW_MS - 60_000, 3))
    assert later.next(NOW_MS, 0) > last


def test_a_run_id_tells_its_shard_and_when_it_was_made() -> None:
    ids = RunIds()
    made = [(shard, ids.next(NOW_MS, shard)) for shard in (0, 1, 63, 255, 7)]
    assert [shard_of(run) for _, run in made] == [shard for shard, _ in made]
    assert all(first_run(NOW_MS) <= run < first_run(NOW_MS + 1) for _, run in made)


def test_owners_of_different_shards_never_make_the_same_id() -> None:
    mine, yours = RunIds(), RunIds()
    assert not {mine.next(NOW_MS, 1) for _ in range(9_000)} & {yours.next(NOW_MS, 2) for _ in range(9_000)}


def test_a_name_has_one_of_the_shards_whatever_process_asks() -> None:
    assert shard_of_name("mail.confirm", 64) == 37
    assert {shard_of_name(f"mail.tell{n}", 4) for n in range(100)} == {0, 1, 2, 3}
    assert shard_of_name("mail.confirm", 1) == 0


def test_a_run_id_is_read_from_its_text() -> None:
    run = RunIds().next(NOW_MS)
    assert parse_run(run_text(run)) == run
    assert parse_run("no id") is None
