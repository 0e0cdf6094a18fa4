"""A URL names a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from minuet.errors import MissingExtra, SettingsError
from minuet.stores.opening import open_store, store_file
from minuet.stores.sqlite.store import SqliteStore


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///shop.db", Path("shop.db")),
        ("sqlite:///data/shop.db", Path("data/shop.db")),
        ("sqlite:////var/lib/shop.db", Path("/var/lib/shop.db")),
        ("sqlite:///with%20space.db", Path("with space.db")),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        (":memory:", None),
    ],
)
def test_a_sqlite_url_names_a_file_or_memory(url: str, file: Path | None) -> None:
    assert store_file(url) == file


@pytest.mark.parametrize(
    "url", ["sqlite://shop.db", "sqlite:///shop.db?mode=ro", "mysql://host/shop", "shop.db", "", "sqlite:///"]
)
def test_a_url_that_names_no_store_is_refused_with_what_is_known(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(url)
    assert "sqlite:///file.db" in caught.value.remedy


@pytest.mark.parametrize("url", ["postgresql://shop@db/shop", "postgres://db/shop"])
def test_a_postgresql_url_says_that_its_store_comes_later(url: str) -> None:
    with pytest.raises(MissingExtra, match="PostgreSQL"):
        open_store(url)


def test_a_store_is_given_unopened() -> None:
    assert isinstance(open_store("sqlite://"), SqliteStore)
