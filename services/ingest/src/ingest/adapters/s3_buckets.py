"""The buckets of the lake's S3 endpoint, opened when they are first needed."""

from __future__ import annotations

from millrace.errors import Invalid
from millrace.objects import ObjectStore
from millrace.objects.s3 import S3ObjectStore
from millrace.settings import SharedSettings, read_secret


class S3Buckets:
    """Opens buckets with the service's keys. Needs `close()` at the end."""

    def __init__(self, shared: SharedSettings) -> None:
        if shared.s3_access_key_file is None or shared.s3_secret_key_file is None:
            raise Invalid("no S3 keys are configured", hint="set MILLRACE_S3_ACCESS_KEY_FILE and …_SECRET_KEY_FILE")
        self._shared = shared
        self._access_key = read_secret(shared.s3_access_key_file)
        self._secret_key = read_secret(shared.s3_secret_key_file)
        self._open: dict[str, S3ObjectStore] = {}

    def open(self, bucket: str) -> ObjectStore:
        """Return a bucket; it connects at the first call."""
        if bucket not in self._open:
            self._open[bucket] = S3ObjectStore(
                endpoint=self._shared.s3_endpoint,
                bucket=bucket,
                region=self._shared.s3_region,
                access_key=self._access_key.get_secret_value(),
                secret_key=self._secret_key.get_secret_value(),
            )
        return self._open[bucket]

    async def close(self) -> None:
        """Let go of all buckets."""
        for store in self._open.values():
            await store.close()
