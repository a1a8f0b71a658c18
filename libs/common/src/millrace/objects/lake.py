"""The lake of this installation: the bucket that the settings name, with the service's own key."""

from __future__ import annotations

from millrace.errors import Invalid
from millrace.objects.s3 import S3ObjectStore
from millrace.settings import SharedSettings, read_secret


def open_lake(shared: SharedSettings, bucket: str | None = None) -> S3ObjectStore:
    """Return a bucket of the lake's endpoint, the lake itself by default; nothing connects before the first call.

    Raises:
        Invalid: the keys are not configured, or their files cannot be read.
    """
    if shared.s3_access_key_file is None or shared.s3_secret_key_file is None:
        raise Invalid(
            "no S3 keys are configured", hint="set MILLRACE_S3_ACCESS_KEY_FILE and MILLRACE_S3_SECRET_KEY_FILE"
        )
    return S3ObjectStore(
        endpoint=shared.s3_endpoint,
        bucket=bucket or shared.s3_bucket,
        region=shared.s3_region,
        access_key=read_secret(shared.s3_access_key_file).get_secret_value(),
        secret_key=read_secret(shared.s3_secret_key_file).get_secret_value(),
        public_endpoint=shared.s3_public_endpoint,
    )
