from __future__ import annotations

import pytest

from millrace.testing.object_store_contract import ObjectStoreContract
from millrace.testing.objects import InMemoryObjectStore


@pytest.fixture
def store() -> InMemoryObjectStore:
    return InMemoryObjectStore()


class TestInMemoryObjectStore(ObjectStoreContract):
    pass
