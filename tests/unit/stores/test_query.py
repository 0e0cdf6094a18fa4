"""Named queries are read from files, and each is used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import minuet.stores.sqlite.store as sqlite_store
from minuet.stores.query import load_queries

SQLITE = Path(sqlite_store.__file__).parent


def test_queries_are_known_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "run.sql").write_text("-- name: load_run\nselect 1\nfrom run;\n\n-- name: count\nselect 2;\n")
    (tmp_path / "fact.sql").write_text("-- name: facts\n-- a comment stays\nselect 3;\n")
    assert load_queries(tmp_path) == {
        "load_run": "select 1\nfrom run",
        "count": "select 2",
        "facts": "-- a comment stays\nselect 3",
    }


@pytest.mark.parametrize(
    "text", ["select 1;", "-- name: a\nselect 1;\n-- name: a\nselect 2;", "-- name: a\n\n-- name: b\nselect 1;"]
)
def test_a_mistake_in_a_file_of_queries_is_noticed(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.sql").write_text(text)
    with pytest.raises(AssertionError):
        load_queries(tmp_path)


def test_each_query_is_used_and_each_name_that_is_used_is_a_query() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(SQLITE.glob("*.py")))
    named = set(load_queries(SQLITE / "queries"))
    assert {name for name in named if f'"{name}"' not in source} == set()
    used = set(re.findall(r'(?:_execute\(|_queries\[|queries\[|_all\(\S+, |_first\(\S+, |_one\()"(\w+)"', source))
    assert used - named == set()
    assert len(used) > 40, "the search found too little to mean anything"


def test_statements_are_written_in_lower_case_and_bound() -> None:
    for name, text in load_queries(SQLITE / "queries").items():
        code = re.sub(r"'[^']*'|--.*", "", text)
        assert code == code.lower(), name
        assert "{" not in code, name
        assert "%" not in code, name
