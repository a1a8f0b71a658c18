from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace.objects import ObjectStore
from millrace.objects.s3 import S3ObjectStore
from millrace.testing.objects import InMemoryObjectStore


@pytest.fixture
def memory() -> InMemoryObjectStore:
    return InMemoryObjectStore()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.servers)])
async def lake(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    if request.param == "memory":
        yield InMemoryObjectStore()
        return
    server: Any = request.getfixturevalue("s3_server")
    store = S3ObjectStore(
        endpoint=server.endpoint,
        bucket=request.getfixturevalue("s3_bucket"),
        region=server.region,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )
    yield store
    await store.close()
