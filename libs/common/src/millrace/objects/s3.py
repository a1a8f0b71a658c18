"""Any S3: obstore for data, the minio SDK for the bucket.

Payloads are unsigned: every object of ours is named by its BLAKE3 or travels under TLS.
"""

from __future__ import annotations

from datetime import timedelta

import obstore
from obstore.store import S3Store

from millrace.objects import bucket as buckets
from millrace.objects.obstore_base import THREADS, ObstoreLake, Patience
from millrace.objects.port import Method


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
    ) -> None:
        self.endpoint = endpoint
        self.region = region
        self._keys = (access_key, secret_key)
        self._patience = Patience(timeout, deadline, retries)
        store = self._connect(endpoint, bucket)
        self._signer = self._connect(public_endpoint, bucket) if public_endpoint else store
        self._inside = store
        super().__init__(store, bucket, patience=self._patience, threads=threads)

    def _connect(self, endpoint: str, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            config={
                "endpoint": endpoint,
                "region": self.region,
                "access_key_id": self._keys[0],
                "secret_access_key": self._keys[1],
                "unsigned_payload": True,
                "virtual_hosted_style_request": False,
            },
            client_options=self._patience.client_options(endpoint),
            retry_config=self._patience.retry_config(),
        )

    def _make_bucket(self) -> None:
        buckets.ensure(self.endpoint, self.bucket, self.region, *self._keys)

    def _sign(self, method: Method, key: str, expires: timedelta, *, inside: bool = False) -> str:
        return obstore.sign(self._inside if inside else self._signer, method, key, expires)
