"""Landings on S3: objects put whole or by multipart upload, streamed through over signed URLs.

The minio SDK computes the signatures (nothing is asked of the server for them), and httpx sends, because a body that
arrives piece by piece must leave so, and obstore has no call for single parts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit
from xml.sax.saxutils import escape, unescape

import httpx
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.signer import presign_v4

from catalog.application.landings import SentPart
from catalog.application.old_landings import Piece
from millrace.clock import SystemClock
from millrace.errors import Invalid, MillraceError, NotFound, Unavailable
from millrace.objects import Lake
from millrace.settings import SharedSettings, read_secret

SIGNED_FOR = timedelta(minutes=15)
DEADLINE = httpx.Timeout(60.0, connect=3.0)
CONNECTIONS = httpx.Limits(max_connections=64)
_UPLOAD = re.compile(r"<UploadId>([^<]{1,1024})</UploadId>")
_UNFINISHED = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_FIELD = re.compile(r"<(Key|UploadId|Initiated)>([^<]*)</")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")


class S3LandingZone:
    """`LandingZone` and `Shore` on one bucket. Needs `close()` at the end."""

    def __init__(self, shared: SharedSettings, store: Lake) -> None:
        self._bucket = shared.s3_bucket
        self._store = store
        self._shared = shared
        self._signer: Minio | None = None
        self._http = httpx.AsyncClient(timeout=DEADLINE, limits=CONNECTIONS, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def uri(self, key: str) -> str:
        """Return the URI of a key."""
        return f"s3://{self._bucket}/{key}"

    async def put(self, key: str, length: int, body: AsyncIterator[bytes]) -> None:
        """Store an object whole; see the port."""
        await self._send("PUT", key, {}, length, body)

    async def begin(self, key: str) -> str:
        """Begin an object that comes in parts; see the port."""
        answer = await self._send("POST", key, {"uploads": ""})
        found = _UPLOAD.search(answer.text)
        if found is None:
            raise Unavailable("the object store names no upload")
        return found.group(1)

    async def put_part(self, key: str, attempt: str, number: int, length: int, body: AsyncIterator[bytes]) -> str:
        """Store a part; see the port."""
        query = {"partNumber": str(number), "uploadId": attempt}
        answer = await self._send("PUT", key, query, length, body)
        return str(answer.headers.get("etag", "")).strip('"')

    async def join(self, key: str, attempt: str, parts: Sequence[SentPart], size: int) -> None:
        """Make the parts an object; see the port."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{escape(part.tag)}&quot;</ETag></Part>"
            for part in parts
        )
        data = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        try:
            answer = await self._send("POST", key, {"uploadId": attempt}, len(data), _once(data))
            if "<Error>" in answer.text:
                raise _refused(answer)
        except (NotFound, Invalid):
            # A repeat of what succeeded finds the upload gone and the object there.
            if await self._size(key) != size:
                raise
            return
        if (found := await self._size(key)) != size:
            await self._store.delete(key)
            raise Invalid(f"the parts have {found} bytes together, and not {size}", hint="send the file again")

    async def abandon(self, key: str, attempt: str) -> None:
        """Forget the parts; see the port."""
        try:
            await self._send("DELETE", key, {"uploadId": attempt})
        except NotFound:
            return

    async def weigh(self, prefix: str) -> tuple[int, int]:
        """Return how many objects lie below a prefix, and their bytes; see the port."""
        files = size = 0
        async for info in self._store.list(prefix):
            files, size = files + 1, size + info.size
        return files, size

    async def folders(self, prefix: str) -> list[str]:
        """Return the names right below a prefix that others lie below; see the port `Shore`.

        The store lists no folder of what has unfinished uploads only, so those count, too.
        """
        uploads = await self._unfinished(prefix) if prefix else []
        below = (piece.key.removeprefix(prefix).partition("/") for piece in uploads)
        return sorted({*await self._store.folders(prefix), *(name for name, slash, _ in below if slash)})

    async def pieces(self, prefix: str) -> AsyncIterator[Piece]:
        """Yield what lies below a prefix, and the uploads there that nobody finished; see the port `Shore`."""
        for piece in await self._unfinished(prefix):
            yield piece
        async for info in self._store.list(prefix):
            yield Piece(info.key, info.modified)

    async def take(self, piece: Piece) -> None:
        """Take a piece away; see the port `Shore`."""
        if piece.attempt is None:
            await self._store.delete(piece.key)
        else:
            await self.abandon(piece.key, piece.attempt)

    async def _unfinished(self, prefix: str) -> list[Piece]:
        """Return the first thousand unfinished uploads below a prefix; the others follow once these are gone."""
        query = {"uploads": "", "prefix": prefix, "max-uploads": "1000"}
        answer = await self._send("GET", "", query)
        found = [dict(_FIELD.findall(one)) for one in _UNFINISHED.findall(answer.text)]
        pieces = [
            Piece(unescape(it["Key"]), datetime.fromisoformat(it["Initiated"]), unescape(it["UploadId"]))
            for it in found
        ]
        return [piece for piece in pieces if piece.key.startswith(prefix)]

    async def _size(self, key: str) -> int | None:
        info = await self._store.head(key)
        return None if info is None else info.size

    async def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        length: int = 0,
        body: AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        url = await asyncio.to_thread(self._signed, method, key, query)
        content = b"" if body is None else _exactly(body, length)
        try:
            answer = await self._http.request(method, url, content=content, headers={"content-length": str(length)})
        except httpx.HTTPError:
            raise Unavailable("the object store does not take the data", hint="try again") from None
        if not answer.is_success:
            raise _refused(answer)
        return answer

    def _signed(self, method: str, key: str, query: Mapping[str, str]) -> str:
        if not key:
            return self._signed_bucket(method, query)
        if self._signer is None:
            self._signer = self._connected()
        return self._signer.get_presigned_url(
            method, self._bucket, key, expires=SIGNED_FOR, extra_query_params=dict(query)
        )

    def _signed_bucket(self, method: str, query: Mapping[str, str]) -> str:
        """Return a request about the bucket itself, which `Minio` signs for nobody."""
        access, secret = self._keys()
        signed = presign_v4(
            method=method,
            url=urlsplit(f"{self._shared.s3_endpoint.rstrip('/')}/{self._bucket}?{urlencode(query, quote_via=quote)}"),
            region=self._shared.s3_region,
            credentials=Credentials(access, secret),
            date=SystemClock().now(),
            expires=int(SIGNED_FOR.total_seconds()),
        )
        return signed.geturl()

    def _keys(self) -> tuple[str, str]:
        shared = self._shared
        if shared.s3_access_key_file is None or shared.s3_secret_key_file is None:
            raise Invalid("no S3 keys are configured")
        files = shared.s3_access_key_file, shared.s3_secret_key_file
        return read_secret(files[0]).get_secret_value(), read_secret(files[1]).get_secret_value()

    def _connected(self) -> Minio:
        shared = self._shared
        access, secret = self._keys()
        parts = urlsplit(shared.s3_endpoint)
        return Minio(
            parts.netloc,
            access_key=access,
            secret_key=secret,
            region=shared.s3_region,
            secure=parts.scheme == "https",
        )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _exactly(body: AsyncIterator[bytes], length: int) -> AsyncIterator[bytes]:
    """Yield a body of a declared length.

    Raises:
        Invalid: it is longer, or ends early; the request to the store then breaks, and nothing is stored.
    """
    seen = 0
    async for part in body:
        seen += len(part)
        if seen > length:
            break
        yield part
    if seen != length:
        raise Invalid("the body does not have the length that was declared")


def _refused(answer: httpx.Response) -> MillraceError:
    found = _CODE.search(answer.text)
    code = found.group(1) if found else str(answer.status_code)
    if code == "NoSuchUpload" or answer.status_code == 404:
        return NotFound("there is no such upload any more", hint="begin the file again")
    if answer.status_code < 500 and answer.status_code not in {403, 429}:
        return Invalid(f"the object store refuses it ({code})", hint="begin the file again")
    return Unavailable(f"the object store does not take the data ({code})", hint="try again")
