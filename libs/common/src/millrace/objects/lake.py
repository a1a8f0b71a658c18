"""The lake of this installation: the bucket that the settings name, with the service's own key."""

from __future__ import annotations

from pathlib import Path

from millrace.errors import Invalid
from millrace.objects.azure import AzureObjectStore
from millrace.objects.gcs import GcsObjectStore
from millrace.objects.port import Lake
from millrace.objects.s3 import S3ObjectStore
from millrace.settings import SharedSettings, read_secret


def open_lake(shared: SharedSettings, bucket: str | None = None) -> Lake:
    """Return a bucket of the lake, the lake's own by default; nothing connects before the first call.

    Raises:
        Invalid: the keys are not configured, or their files cannot be read.
    """
    opened = {"s3": _s3, "azure": _azure, "gcs": _gcs}[shared.lake]
    return opened(shared, bucket or shared.lake_bucket)


def _s3(shared: SharedSettings, bucket: str) -> Lake:
    if shared.s3_access_key_file is None or shared.s3_secret_key_file is None:
        raise Invalid(
            "no S3 keys are configured", hint="set MILLRACE_S3_ACCESS_KEY_FILE and MILLRACE_S3_SECRET_KEY_FILE"
        )
    return S3ObjectStore(
        endpoint=shared.s3_endpoint,
        bucket=bucket,
        region=shared.s3_region,
        access_key=_text(shared.s3_access_key_file),
        secret_key=_text(shared.s3_secret_key_file),
        public_endpoint=shared.s3_public_endpoint,
    )


def _azure(shared: SharedSettings, bucket: str) -> Lake:
    if shared.azure_account is None or shared.azure_key_file is None:
        raise Invalid(
            "no Azure storage account is configured", hint="set MILLRACE_AZURE_ACCOUNT and MILLRACE_AZURE_KEY_FILE"
        )
    return AzureObjectStore(
        account=shared.azure_account,
        container=bucket,
        key=_text(shared.azure_key_file),
        endpoint=shared.azure_endpoint,
        public_endpoint=shared.azure_public_endpoint,
    )


def _gcs(shared: SharedSettings, bucket: str) -> Lake:
    if shared.gcs_key_file is None:
        raise Invalid("no key of Google Cloud Storage is configured", hint="set MILLRACE_GCS_KEY_FILE")
    return GcsObjectStore(
        bucket=bucket,
        key=_text(shared.gcs_key_file),
        endpoint=shared.gcs_endpoint,
        public_endpoint=shared.gcs_public_endpoint,
        location=shared.gcs_location,
    )


def _text(path: Path) -> str:
    return read_secret(path).get_secret_value()
