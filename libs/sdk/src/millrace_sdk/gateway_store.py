"""The lake as the gateway opens it to clients: by presigned URLs, and sealed where the project is encrypted."""

from __future__ import annotations

from collections.abc import Iterable

from millrace.clock import SystemClock
from millrace.sealing import KeyMemory, Known, ProjectKey, SealedStore
from millrace_sdk.client import AsyncCatalog
from millrace_sdk.presigned import PresignedObjectStore


class GatewayStore(SealedStore):
    """`ObjectStore` of one dataset: contents are sealed and opened here, names by the gateway that signs the URLs.

    `ref` is the version that reads come from; without one it only writes. The project's key is asked for when it is
    first needed, and kept in memory alone.
    """

    def __init__(self, catalog: AsyncCatalog, dataset: str, *, ref: str | int | None = None) -> None:
        keys = keys_of(catalog)

        async def sealed() -> str | None:
            key = await keys.key_of(catalog.project)
            return None if key is None else key.id

        self._presigned = PresignedObjectStore(catalog, dataset, ref=ref, sealed=sealed)
        super().__init__(self._presigned, keys, names=False)

    def expect(self, keys: Iterable[str]) -> None:
        """Say which objects will be read, in which order; their URLs are then asked for in batches."""
        self._presigned.expect(keys)

    async def aclose(self) -> None:
        """Close the connections to the lake."""
        await self._presigned.aclose()


def keys_of(catalog: AsyncCatalog) -> KeyMemory:
    """Return the key ring of a client, which all its stores share."""
    if catalog.keys is None:

        async def ask(project: str) -> Known:
            state = await catalog.encryption()
            if not state["encrypted"]:
                return Known(None, settled=bool(state["settled"]))
            return Known(ProjectKey.from_text(project, str((await catalog.encryption_key())["key"])), settled=True)

        catalog.keys = KeyMemory(ask, SystemClock())
    return catalog.keys
