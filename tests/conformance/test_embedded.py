"""The embedded broker, over a SQLite file and over a store in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from minuet.brokers.embedded import EmbeddedBroker
from minuet.engine.broker import BrokerCapability
from minuet.runtime.clock import SystemClock
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.broker_suite import BrokerSuite, MakeBroker


class TestEmbeddedOverFile(BrokerSuite):
    @pytest.fixture
    def broker(self, tmp_path: Path) -> MakeBroker:
        return lambda: EmbeddedBroker(SqliteStore(tmp_path / "broker.db"), SystemClock())


class TestEmbeddedInMemory(BrokerSuite):
    capabilities = frozenset(BrokerCapability) - {BrokerCapability.DURABLE}

    @pytest.fixture
    def broker(self) -> MakeBroker:
        return lambda: EmbeddedBroker(SqliteStore(), SystemClock())
