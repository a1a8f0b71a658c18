"""A door in front of fake-gcs-server, for tests: what Google's XML interface has and the emulator's has not.

The emulator reads, lists and deletes by the XML interface, but writes by JSON only, makes buckets by JSON only, and
checks no signature. The door turns an XML PUT into the JSON upload with the same precondition (which the emulator
judges), an XML PUT of a bucket into its JSON call, and refuses a signed URL whose signature does not fit the request.
XML multipart uploads and checksums stay away, as they are in the emulator.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import urllib3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

PASSED_ON = ("content-type", "content-range", "etag", "last-modified", "x-goog-generation")
BOUNDARY = "part-of-a-test"


def signature_fits(method: str, target: str, headers: Message, key: RSAPublicKey) -> bool:
    """Return whether a signed request carries what was signed, read from the request alone."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query))
    signature = query.pop("X-Goog-Signature")
    asked = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(query.items()))
    names = query["X-Goog-SignedHeaders"]
    sent = [f"{name}:{headers.get(name, '')}" for name in names.split(";")]
    canonical = "\n".join([method, parts.path, asked, *sent, "", names, "UNSIGNED-PAYLOAD"])
    scope = query["X-Goog-Credential"].partition("/")[2]
    text = "\n".join([query["X-Goog-Algorithm"], query["X-Goog-Date"], scope])
    text += "\n" + hashlib.sha256(canonical.encode()).hexdigest()
    try:
        key.verify(bytes.fromhex(signature), text.encode(), PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


class _Door(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, emulator: str, key: RSAPublicKey) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.emulator, self.key = emulator, key
        self.pool = urllib3.PoolManager(maxsize=16)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Door

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        if "X-Goog-Signature=" in parts.query and not self._signed():
            self._say(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return
        bucket, _, key = parts.path.removeprefix("/").partition("/")
        if self.command == "PUT" and not key:
            self._make(bucket)
        elif self.command == "PUT":
            self._upload(bucket, unquote(key), body)
        elif not key and self._ask("GET", f"/storage/v1/b/{bucket}").status == 404:
            self._say(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        else:
            self._pass()

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _handle  # noqa: N815 - the base class's names

    def _signed(self) -> bool:
        return signature_fits(self.command, self.path, self.headers, self.server.key)

    def _make(self, bucket: str) -> None:
        answer = self._ask("POST", "/storage/v1/b?project=p", json.dumps({"name": bucket}).encode())
        self._say(answer.status, answer.data)

    def _upload(self, bucket: str, key: str, body: bytes) -> None:
        head = f"--{BOUNDARY}\r\ncontent-type: application/json\r\n\r\n{json.dumps({'name': key})}\r\n"
        head += f"--{BOUNDARY}\r\ncontent-type: application/octet-stream\r\n\r\n"
        wanted = self.headers.get("x-goog-if-generation-match")
        only = "" if wanted is None else f"&ifGenerationMatch={wanted}"
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{only}"
        whole = head.encode() + body + f"\r\n--{BOUNDARY}--\r\n".encode()
        answer = self._ask("POST", path, whole, f"multipart/related; boundary={BOUNDARY}")
        if answer.status < 300:
            told = json.loads(answer.data)
            self._say(200, b"", {"etag": f'"{told["etag"]}"', "x-goog-generation": told["generation"]})
        else:
            self._say(answer.status, answer.data)

    def _pass(self) -> None:
        sent = {"range": self.headers["range"]} if "range" in self.headers else {}
        answer = self.server.pool.request(self.command, self.server.emulator + self.path, headers=sent, retries=False)
        kept = {name: value for name, value in answer.headers.items() if name.lower() in PASSED_ON}
        length = answer.headers.get("content-length") if self.command == "HEAD" else None
        self._say(answer.status, answer.data, kept, length)

    def _ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> urllib3.BaseHTTPResponse:
        url = self.server.emulator + path
        return self.server.pool.request(method, url, body=body, headers={"content-type": kind}, retries=False)

    def _say(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def gcs_door(emulator: str, key: RSAPublicKey) -> Iterator[str]:
    """Serve on a free port of the loopback until the block ends; yield the address. `key` verifies signed URLs."""
    with _Door(emulator, key) as door:
        thread = threading.Thread(target=door.serve_forever, name="gcs-door")
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.server_port}"
        finally:
            door.shutdown()
            thread.join(10)
            door.pool.clear()
