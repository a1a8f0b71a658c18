"""Azure Blob Storage: obstore for data; the container and signed URLs by the documented signatures.

obstore signs URLs, too, but over the percent-encoded name, which the service refuses for a name with a space; and its
signature allows to write. Ours allows to *create*: whoever holds the URL cannot overwrite, whatever headers are sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

from obstore.store import AzureStore

from millrace.clock import Clock, SystemClock
from millrace.errors import Forbidden, Invalid, Unavailable
from millrace.objects import wire
from millrace.objects.azure_signing import Account, creating_container, signed_url
from millrace.objects.obstore_base import THREADS, ObstoreLake, Patience
from millrace.objects.port import Method


class AzureObjectStore(ObstoreLake):
    """`Lake` on one container of a storage account. Needs `close()` at the end.

    `key` is one of the account's two keys, base64. `endpoint` is the blob service's address, by default the public
    cloud's; `public_endpoint` the one in signed URLs where clients reach it by another name.

    Raises:
        Invalid: the account's name or key cannot be.
    """

    put_headers: ClassVar[Mapping[str, str]] = {"x-ms-blob-type": "BlockBlob", "if-none-match": "*"}

    def __init__(
        self,
        *,
        account: str,
        container: str,
        key: str,
        endpoint: str | None = None,
        public_endpoint: str | None = None,
        timeout: float = 60.0,
        deadline: float = 120.0,
        retries: int = 5,
        threads: int = THREADS,
        clock: Clock | None = None,
    ) -> None:
        self._account = Account.of(account, key)
        self.endpoint = (endpoint or f"https://{account}.blob.core.windows.net").rstrip("/")
        self._public = (public_endpoint or self.endpoint).rstrip("/")
        self._clock = clock or SystemClock()
        patience = Patience(timeout, deadline, retries)
        store = AzureStore(
            container,
            config={
                "account_name": account,
                "account_key": key,
                "credential_type": "access_key",
                "endpoint": self.endpoint,
                "use_emulator": False,
                "skip_signature": False,
            },
            client_options=patience.client_options(self.endpoint),
            retry_config=patience.retry_config(),
        )
        super().__init__(store, container, patience=patience, threads=threads)

    def _make_bucket(self) -> None:
        url, headers = creating_container(self._account, self.endpoint, self.bucket, at=self._clock.now())
        reply = wire.send("PUT", url, headers=headers)
        if reply.status < 300 or b"<Code>ContainerAlreadyExists</Code>" in reply.body:
            return
        if reply.status in {401, 403}:
            raise Forbidden(f"the storage account refuses container {self.bucket!r}", hint="check the account's key")
        if reply.status == 400:
            raise Invalid(f"the storage account takes no container {self.bucket!r}", hint="3 to 63 of a-z, 0-9 and -")
        raise Unavailable(f"the storage account cannot make container {self.bucket!r} ({reply.status})")

    def _sign(self, method: Method, key: str, expires: timedelta, *, inside: bool = False) -> str:
        endpoint = self.endpoint if inside else self._public
        return signed_url(self._account, method, endpoint, self.bucket, key, until=self._clock.now() + expires)
