"""The port's contract on sealed objects: over memory, and over a real lake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from blake3 import blake3

from millrace.datasets.keys import chunk_key
from millrace.objects import ObjectInfo, ObjectStore, Presigned
from millrace.objects.port import Method, check_key
from millrace.objects.s3 import S3ObjectStore
from millrace.sealing import ProjectKey, SealedStore
from millrace.sealing.segments import Data
from millrace.testing import InMemoryObjectStore
from millrace.testing.object_store_contract import ObjectStoreContract

PROJECT = "wards"


class Ring:
    """One key for every project."""

    async def key_of(self, project: str) -> ProjectKey | None:
        return ProjectKey(project, bytes(range(32)))


class Renamed:
    """A store of any keys on chunks of an encrypted project, so that the contract's keys are all sealed."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = SealedStore(inner, Ring(), check=lambda *_: None)
        self._keys: dict[str, str] = {}

    def _as(self, key: str) -> str:
        named = chunk_key(PROJECT, blake3(check_key(key).encode()).hexdigest())
        self._keys[named] = key
        return named

    async def put(self, key: str, data: Data, *, create_only: bool = False) -> bool:
        return await self._inner.put(self._as(key), data, create_only=create_only)

    async def get(self, key: str) -> bytes:
        return await self._inner.get(self._as(key))

    async def get_into(self, key: str, buffer: memoryview) -> int:
        return await self._inner.get_into(self._as(key), buffer)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._inner.get_range(self._as(key), start, length)

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        return await self._inner.get_ranges(self._as(key), ranges)

    async def head(self, key: str) -> ObjectInfo | None:
        info = await self._inner.head(self._as(key))
        return None if info is None else ObjectInfo(key, info.size)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        async for info in self._inner.list(f"{PROJECT}/chunks/"):
            if (key := self._keys[info.key]).startswith(prefix):
                yield ObjectInfo(key, info.size)

    async def delete(self, key: str) -> None:
        await self._inner.delete(self._as(key))

    async def presign(self, method: Method, key: str, *, expires: timedelta) -> Presigned:
        return await self._inner.presign(method, self._as(key), expires=expires)


class TestSealedInMemory(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> Renamed:
        return Renamed(InMemoryObjectStore())


@pytest.mark.servers
class TestSealedOnS3(ObjectStoreContract):
    @pytest.fixture
    async def store(self, s3_server: Any, s3_bucket: str) -> AsyncIterator[Renamed]:
        lake = S3ObjectStore(
            endpoint=s3_server.endpoint,
            bucket=s3_bucket,
            region=s3_server.region,
            access_key=s3_server.access_key,
            secret_key=s3_server.secret_key,
        )
        yield Renamed(lake)
        await lake.close()


class TestAllElse(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> SealedStore:
        return SealedStore(InMemoryObjectStore(), Ring())
