"""One contract, two stores."""

from __future__ import annotations

import pytest

from millrace.documents.indexes import Database
from millrace.leases import LeaseStore
from millrace.testing import InMemoryLeaseStore
from millrace.testing.lease_contract import LeaseContract, MakeObserver
from millrace.testing.leases import LeaseTable


class TestInMemory(LeaseContract):
    @pytest.fixture
    def observer(self) -> MakeObserver:
        table = LeaseTable()
        return lambda clock: InMemoryLeaseStore(table, clock=clock)


@pytest.mark.servers
class TestMongo(LeaseContract):
    @pytest.fixture
    def observer(self, database: Database) -> MakeObserver:
        return lambda clock: LeaseStore(database, clock=clock)
