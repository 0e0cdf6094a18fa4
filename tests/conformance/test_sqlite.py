"""The SQLite store, in a file and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from minuet.engine.port import Capability
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.message_suite import MessageSuite
from minuet.testing.outbox_suite import OutboxSuite
from minuet.testing.store_suite import MakeStore, StoreSuite


class TestSqliteFile(StoreSuite, OutboxSuite, MessageSuite):
    capabilities = frozenset(Capability) - {Capability.SHARED}

    @pytest.fixture
    def store(self, tmp_path: Path) -> MakeStore:
        return lambda: SqliteStore(tmp_path / "store.db")


class TestSqliteInMemory(StoreSuite, OutboxSuite, MessageSuite):
    capabilities = frozenset({Capability.TRANSACTIONS})

    @pytest.fixture
    def store(self) -> MakeStore:
        return SqliteStore
