"""The catalog with its real servers, for the frameworks that the SDK's extras fit into.

Run by `make integrations`, which installs the frameworks; where one is missing, its tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace_sdk import Catalog
from millrace_stack.config import SERVICES, StackConfig
from millrace_stack.stack import Stack, down, up

NEEDED = {"catalog", "provisioner"}


@pytest.fixture(autouse=True)
def nothing_is_reported_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kedro brings a plugin that would tell its makers what is run."""
    monkeypatch.setenv("KEDRO_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("integrations")
    services = tuple(spec for spec in SERVICES if spec.name in NEEDED)
    try:
        yield up(home, StackConfig(ports="auto", services=services, servers=("nats", "mongo", "s3")))
    finally:
        down(home)


@pytest.fixture
def catalog(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Catalog]:
    """A client of the running catalog; whatever connects in this process finds the same."""
    monkeypatch.setenv("MILLRACE_HOME", str(stack.layout.root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MILLRACE_URL", "MILLRACE_TOKEN", "MILLRACE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with Catalog() as client:
        yield client
