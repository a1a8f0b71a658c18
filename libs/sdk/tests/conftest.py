from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.objects.s3 import S3ObjectStore

from .gateway import TOKEN, Gateway, serving


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees this machine's stack, tokens or caches."""
    for name in ("MILLRACE_URL", "MILLRACE_TOKEN", "MILLRACE_TOKEN_FILE", "MILLRACE_HOME", "MILLRACE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway without a lake."""
    with serving(Gateway()) as running:
        monkeypatch.setenv("MILLRACE_URL", running.url)
        monkeypatch.setenv("MILLRACE_TOKEN", TOKEN)
        yield running


@pytest.fixture
def lake(s3_server: Any, s3_bucket: str) -> Iterator[S3ObjectStore]:
    """A bucket of a real S3 server."""
    store = S3ObjectStore(
        endpoint=s3_server.endpoint,
        bucket=s3_bucket,
        region=s3_server.region,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
    yield store
    asyncio.run(store.close())


@pytest.fixture
def lakeside(lake: S3ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway with a real lake behind it."""
    with serving(Gateway(lake)) as running:
        monkeypatch.setenv("MILLRACE_URL", running.url)
        monkeypatch.setenv("MILLRACE_TOKEN", TOKEN)
        yield running
