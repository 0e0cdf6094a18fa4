"""Migrations are numbered, verified, and forward only."""

from __future__ import annotations

from pathlib import Path

import pytest

from minuet.errors import StoreDamaged
from minuet.stores.migration import Migration, find_migrations, pending_migrations


def known(*numbers: int) -> list[Migration]:
    return [Migration(number=n, sql=f"select {n};", checksum=f"sum-{n}") for n in numbers]


def test_migrations_are_found_in_order(tmp_path: Path) -> None:
    for number in (2, 1, 3):
        (tmp_path / f"{number:04}.sql").write_text(f"select {number};")
    found = find_migrations(tmp_path)
    assert [(m.number, m.sql) for m in found] == [(1, "select 1;"), (2, "select 2;"), (3, "select 3;")]
    assert len({m.checksum for m in found}) == 3


def test_a_gap_in_the_numbers_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "0001.sql").write_text("select 1;")
    (tmp_path / "0003.sql").write_text("select 3;")
    with pytest.raises(AssertionError, match="expected number 2"):
        find_migrations(tmp_path)


def test_what_is_not_applied_is_pending() -> None:
    assert [m.number for m in pending_migrations(known(1, 2, 3), [(1, "sum-1")], "s")] == [2, 3]
    assert pending_migrations(known(1), [(1, "sum-1")], "s") == []


def test_a_store_of_a_later_release_is_refused() -> None:
    with pytest.raises(StoreDamaged, match="schema 2, this release knows up to 1") as caught:
        pending_migrations(known(1), [(1, "sum-1"), (2, "sum-2")], "shop.db")
    assert caught.value.remedy
    assert caught.value.subject["schema"] == 2


def test_a_store_made_by_another_text_is_refused() -> None:
    with pytest.raises(StoreDamaged, match="another text"):
        pending_migrations(known(1), [(1, "sum-x")], "shop.db")
