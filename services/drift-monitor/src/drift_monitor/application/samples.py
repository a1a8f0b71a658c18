"""Pictures of single rows, kept as objects that are named by their digest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from drift_monitor.domain.exemplars import Exemplar
from drift_monitor.errors import SampleNotFound
from millrace.errors import NotFound
from millrace.objects import ObjectStore

AT_ONCE = 16


def sample_key(project: str, digest: str) -> str:
    """Return the key of a picture."""
    return f"{project}/samples/{digest}"


class Samples:
    """Stores and returns pictures."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def store(self, project: str, exemplars: Iterable[Exemplar]) -> None:
        """Make sure that the pictures that are held by `exemplars` are objects; those released already are."""
        pictures = {one.digest: one.png for one in exemplars if one.png is not None}
        limit = asyncio.Semaphore(AT_ONCE)

        async def put(digest: str, png: bytes) -> None:
            async with limit:
                await self._objects.put(sample_key(project, digest), png, create_only=True)

        await asyncio.gather(*(put(digest, png) for digest, png in pictures.items()))

    async def get(self, project: str, digest: str) -> bytes:
        """Return a picture.

        Raises:
            SampleNotFound: its retention is over.
        """
        try:
            return await self._objects.get(sample_key(project, digest))
        except NotFound:
            raise SampleNotFound(f"the picture {digest} is gone") from None
