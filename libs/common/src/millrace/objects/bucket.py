"""Bucket administration by the minio SDK, and the two wire checks of the probe. All blocking: call it in threads."""

from __future__ import annotations

from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from millrace.errors import Forbidden, Invalid, Unavailable

SECONDS = 10.0
_WRONG_MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="


def ensure(endpoint: str, bucket: str, region: str, access_key: str, secret_key: str) -> None:
    """Create the bucket unless it exists; two processes may do so at once.

    Raises:
        Forbidden: the keys do not allow it.
        Unavailable: the endpoint does not answer.
    """
    client = _client(endpoint, region, access_key, secret_key)
    try:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket, location=region)
    except S3Error as error:
        if error.code in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
            return
        if error.code in {"AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"}:
            raise Forbidden(f"the object store refuses bucket {bucket!r} ({error.code})") from error
        raise Unavailable(f"the object store cannot make bucket {bucket!r} ({error.code})") from error
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise Unavailable(f"the object store at {endpoint} does not answer", hint="is it up?") from error
    except ValueError as error:
        raise Invalid(f"bad bucket or endpoint: {error}") from None


def _client(endpoint: str, region: str, access_key: str, secret_key: str) -> Minio:
    parts = urlsplit(endpoint)
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=SECONDS, connect=3.0), retries=urllib3.Retry(3))
    return Minio(
        parts.netloc,
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        secure=parts.scheme == "https",
        http_client=pool,
    )


def honours_if_none_match(url: str) -> bool:
    """Return whether the second of two presigned PUTs with `If-None-Match: *` is refused."""
    headers = {"If-None-Match": "*"}
    first = _put(url, b"first", headers)
    second = _put(url, b"second", headers)
    return first < 300 and second in {409, 412}


def refuses_bad_md5(url: str) -> bool:
    """Return whether a body that contradicts its `Content-MD5` is refused."""
    return 400 <= _put(url, b"body", {"Content-MD5": _WRONG_MD5}) < 500


def _put(url: str, body: bytes, headers: dict[str, str]) -> int:
    try:
        answer = urllib3.request("PUT", url, body=body, headers=headers, timeout=SECONDS, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable("the object store does not answer a presigned PUT") from error
    return int(answer.status)
