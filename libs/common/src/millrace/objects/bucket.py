"""Bucket administration on S3 by the minio SDK. Blocking: call it in threads."""

from __future__ import annotations

from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from millrace.errors import Forbidden, Invalid, Unavailable

SECONDS = 10.0


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
