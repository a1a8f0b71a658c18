"""The buckets beside the lake's own, at its endpoint and with its key, opened when they are first needed."""

from __future__ import annotations

from millrace.objects import Lake, ObjectStore
from millrace.objects.lake import open_lake
from millrace.settings import SharedSettings


class LakeBuckets:
    """Opens buckets with the service's keys. Needs `close()` at the end.

    Raises:
        Invalid: the keys are not configured.
    """

    def __init__(self, shared: SharedSettings) -> None:
        self._shared = shared
        self._open: dict[str, Lake] = {shared.lake_bucket: open_lake(shared)}

    def open(self, bucket: str) -> ObjectStore:
        """Return a bucket; it connects at the first call."""
        if bucket not in self._open:
            self._open[bucket] = open_lake(self._shared, bucket)
        return self._open[bucket]

    async def close(self) -> None:
        """Let go of all buckets."""
        for store in self._open.values():
            await store.close()
