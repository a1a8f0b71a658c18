"""The buckets of the lake's S3 endpoint, opened when they are first needed."""

from __future__ import annotations

from millrace.objects import ObjectStore
from millrace.objects.lake import open_lake
from millrace.objects.s3 import S3ObjectStore
from millrace.settings import SharedSettings


class S3Buckets:
    """Opens buckets with the service's keys. Needs `close()` at the end.

    Raises:
        Invalid: the keys are not configured.
    """

    def __init__(self, shared: SharedSettings) -> None:
        self._shared = shared
        self._open: dict[str, S3ObjectStore] = {shared.s3_bucket: open_lake(shared)}

    def open(self, bucket: str) -> ObjectStore:
        """Return a bucket; it connects at the first call."""
        if bucket not in self._open:
            self._open[bucket] = open_lake(self._shared, bucket)
        return self._open[bucket]

    async def close(self) -> None:
        """Let go of all buckets."""
        for store in self._open.values():
            await store.close()
