"""Google Cloud Storage by its XML interface: obstore for data; the bucket and signed URLs by V4 signatures.

obstore signs URLs, too, but binds no header. Ours bind `x-goog-if-generation-match: 0` to a PUT: whoever holds the URL
can only create.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

import obstore
from obstore.store import GCSStore

from millrace.clock import Clock, SystemClock
from millrace.errors import Forbidden, Invalid, Unavailable
from millrace.objects import wire
from millrace.objects.gcs_signing import ServiceAccount
from millrace.objects.obstore_base import THREADS, ObstoreLake, Patience
from millrace.objects.port import Method
from millrace.objects.v4_signing import object_url, signed_url

ENDPOINT = "https://storage.googleapis.com"


class GcsObjectStore(ObstoreLake):
    """`Lake` on one bucket of Google Cloud Storage. Needs `close()` at the end.

    `key` is a service account's key, the JSON document. `location` is where the bucket is made if it is missing
    (`europe-west3`, `EU`, …); without it the bucket must exist, because data must not land in a country by default.

    Raises:
        Invalid: the key is none, or the environment names another.
    """

    put_headers: ClassVar[Mapping[str, str]] = {"x-goog-if-generation-match": "0"}

    def __init__(
        self,
        *,
        bucket: str,
        key: str,
        endpoint: str | None = None,
        public_endpoint: str | None = None,
        location: str | None = None,
        timeout: float = 60.0,
        deadline: float = 120.0,
        retries: int = 5,
        threads: int = THREADS,
        clock: Clock | None = None,
    ) -> None:
        self._account = ServiceAccount.of(key)
        self.endpoint = (endpoint or ENDPOINT).rstrip("/")
        self._public = (public_endpoint or self.endpoint).rstrip("/")
        self._location = location
        self._clock = clock or SystemClock()
        patience = Patience(timeout, deadline, retries)
        try:
            store = GCSStore(
                bucket,
                config={"service_account_key": key, "base_url": self.endpoint, "skip_signature": False},
                client_options=patience.client_options(self.endpoint),
                retry_config=patience.retry_config(),
            )
        except (obstore.exceptions.BaseError, ValueError) as error:
            # obstore also reads the environment; a second account there contradicts ours
            raise Invalid(
                f"cannot connect to Google Cloud Storage at {self.endpoint}", hint="is GOOGLE_SERVICE_ACCOUNT set?"
            ) from error
        super().__init__(store, bucket, patience=patience, threads=threads)

    def _make_bucket(self) -> None:
        if self._bucket_exists():
            return
        if self._location is None:
            raise Invalid(f"there is no bucket {self.bucket!r}", hint="make it, or set MILLRACE_GCS_LOCATION")
        headers = {"x-goog-project-id": self._account.project}
        url = signed_url(
            self._account, "PUT", f"{self.endpoint}/{self.bucket}", headers=headers, at=self._clock.now(), seconds=300
        )
        where = f"<LocationConstraint>{self._location}</LocationConstraint>"
        body = f"<CreateBucketConfiguration>{where}</CreateBucketConfiguration>".encode()
        reply = wire.send("PUT", url, body=body, headers=headers)
        if reply.status < 300 or (reply.status == 409 and self._bucket_exists()):
            return
        if reply.status in {401, 403, 409}:
            raise Forbidden(f"Google refuses bucket {self.bucket!r}", hint="its name may be somebody else's")
        if reply.status == 400:
            raise Invalid(f"Google takes no bucket {self.bucket!r} in {self._location!r}")
        raise Unavailable(f"Google cannot make bucket {self.bucket!r} ({reply.status})")

    def _bucket_exists(self) -> bool:
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except obstore.exceptions.BaseError as error:
            if "status code: 404" in str(error):
                return False
            raise
        return True

    def _sign(self, method: Method, key: str, expires: timedelta, *, inside: bool = False) -> str:
        endpoint = self.endpoint if inside else self._public
        headers = self.put_headers if method == "PUT" else {}
        seconds = max(1, int(expires.total_seconds()))
        url = object_url(f"{endpoint}/{self.bucket}", key)
        return signed_url(self._account, method, url, headers=headers, at=self._clock.now(), seconds=seconds)
