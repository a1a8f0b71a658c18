"""Landings on a lake that is no S3: objects are put whole, so that a file is no larger than one part may be.

Azure and Google have uploads in parts of their own kinds; a browser's large files go to an S3 lake, or by `sync`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from catalog.application.landings import PART_BYTES, SentPart
from catalog.application.old_landings import Piece
from millrace.errors import Invalid, NotFound
from millrace.objects import Lake
from millrace.settings import SharedSettings


class WholeLandingZone:
    """`LandingZone` and `Shore` on the object-store port."""

    def __init__(self, shared: SharedSettings, store: Lake) -> None:
        self._place = f"{shared.lake_scheme}://{shared.lake_bucket}"
        self._store = store

    async def close(self) -> None:
        """Let go of nothing: the store is its owner's."""

    def uri(self, key: str) -> str:
        """Return the URI of a key."""
        return f"{self._place}/{key}"

    async def put(self, key: str, length: int, body: AsyncIterator[bytes]) -> None:
        """Store an object whole; see the port."""
        if length > PART_BYTES:
            raise _too_large()
        data = bytearray()
        async for part in body:
            data += part
            if len(data) > length:
                break
        if len(data) != length:
            raise Invalid("the body does not have the length that was declared")
        await self._store.put(key, data)

    async def begin(self, key: str) -> str:  # noqa: ARG002 - the port's shape
        """Refuse: this lake takes no parts through the gateway."""
        raise _too_large()

    async def put_part(
        self,
        key: str,  # noqa: ARG002
        attempt: str,  # noqa: ARG002
        number: int,  # noqa: ARG002
        length: int,  # noqa: ARG002
        body: AsyncIterator[bytes],  # noqa: ARG002
    ) -> str:
        """Refuse: nothing was begun."""
        raise NotFound("there is no such upload")

    async def join(self, key: str, attempt: str, parts: Sequence[SentPart], size: int) -> None:  # noqa: ARG002
        """Refuse: nothing was begun."""
        raise NotFound("there is no such upload")

    async def abandon(self, key: str, attempt: str) -> None:
        """Do nothing: nothing was begun."""

    async def folders(self, prefix: str) -> list[str]:
        """Return the names right below a prefix that others lie below; see the port `Shore`."""
        return await self._store.folders(prefix)

    async def pieces(self, prefix: str) -> AsyncIterator[Piece]:
        """Yield what lies below a prefix; see the port `Shore`."""
        async for info in self._store.list(prefix):
            yield Piece(info.key, info.modified)

    async def take(self, piece: Piece) -> None:
        """Take a piece away; see the port `Shore`."""
        await self._store.delete(piece.key)

    async def weigh(self, prefix: str) -> tuple[int, int]:
        """Return how many objects lie below a prefix, and their bytes; see the port."""
        files = size = 0
        async for info in self._store.list(prefix):
            files, size = files + 1, size + info.size
        return files, size


def _too_large() -> Invalid:
    return Invalid(
        f"this installation's lake takes files of at most {PART_BYTES} bytes from a browser",
        hint="`millrace data sync` takes files of any size",
    )
