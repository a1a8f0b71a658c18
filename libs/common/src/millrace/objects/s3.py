"""Any S3: obstore for data, the minio SDK for the bucket.

Payloads are unsigned: every object of ours is named by its BLAKE3 or travels under TLS.
"""

from __future__ import annotations

from datetime import timedelta

from obstore.store import S3Store

from millrace.clock import Clock, SystemClock
from millrace.objects.obstore_base import THREADS, ObstoreLake, Patience
from millrace.objects.port import Method
from millrace.objects.v4_signing import AccessKey, object_url, signed_url


class S3ObjectStore(ObstoreLake):
    """`Lake` on one bucket of any S3 endpoint. Needs `close()` at the end.

    `timeout` bounds one HTTP request, `deadline` a whole call with its retries, both in seconds. `public_endpoint`
    is the address in presigned URLs where clients reach the endpoint by another name.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        bucket: str,
        region: str,
        access_key: str,
        secret_key: str,
        public_endpoint: str | None = None,
        timeout: float = 60.0,
        deadline: float = 120.0,
        retries: int = 5,
        threads: int = THREADS,
        clock: Clock | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.region = region
        self._public = public_endpoint or endpoint
        self._key = AccessKey(access_key, secret_key, region)
        self._patience = Patience(timeout, deadline, retries)
        self._clock = clock or SystemClock()
        super().__init__(self._connect(endpoint, bucket), bucket, patience=self._patience, threads=threads)

    def _connect(self, endpoint: str, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            config={
                "endpoint": endpoint,
                "region": self.region,
                "access_key_id": self._key.access_key,
                "secret_access_key": self._key.secret_key,
                "unsigned_payload": True,
                "virtual_hosted_style_request": False,
            },
            client_options=self._patience.client_options(endpoint),
            retry_config=self._patience.retry_config(),
        )

    def _make_bucket(self) -> None:
        from millrace.objects import bucket as buckets  # noqa: PLC0415 - the minio SDK takes 0.1 s, and few make a bucket

        buckets.ensure(self.endpoint, self.bucket, self.region, self._key.access_key, self._key.secret_key)

    def _sign(self, method: Method, key: str, expires: timedelta, *, inside: bool = False) -> str:
        endpoint = (self.endpoint if inside else self._public).rstrip("/")
        headers = self.put_headers if method == "PUT" else {}
        seconds = max(1, int(expires.total_seconds()))
        url = object_url(f"{endpoint}/{self.bucket}", key)
        return signed_url(self._key, method, url, headers=headers, at=self._clock.now(), seconds=seconds)
