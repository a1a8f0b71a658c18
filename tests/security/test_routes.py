"""Every route of every service, enumerated: nothing answers without a token but what is on the reviewed list."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import cache_manager.bootstrap
import catalog.bootstrap
import drift_monitor.bootstrap
import ingest.bootstrap
import serving.bootstrap
import trainer.bootstrap
from cache_manager.settings import CacheManagerSettings
from catalog.console import ANONYMOUS_PATHS as CONSOLE_PATHS
from catalog.settings import CatalogSettings
from drift_monitor.settings import DriftMonitorSettings
from ingest.settings import IngestSettings
from millrace.auth import mint
from millrace.http import ANONYMOUS_PATHS, enumerate_routes
from millrace.settings import ServiceSettings, SharedSettings
from serving.settings import ServingSettings
from trainer.settings import TrainerSettings

Build = Callable[[Any, SharedSettings], Any]
SERVICES: dict[str, tuple[type[ServiceSettings], Build]] = {
    "catalog": (CatalogSettings, catalog.bootstrap.build),
    "cache-manager": (CacheManagerSettings, cache_manager.bootstrap.build),
    "drift-monitor": (DriftMonitorSettings, drift_monitor.bootstrap.build),
    "ingest": (IngestSettings, ingest.bootstrap.build),
    "serving": (ServingSettings, serving.bootstrap.build),
    "trainer": (TrainerSettings, trainer.bootstrap.build),
}

REVIEWED: dict[str, frozenset[str]] = {
    # The documents that describe the API say nothing about anybody's data; the consent handshake answers only origins
    # on an allow-list; the console's own paths are the way to sign in.
    "catalog": CONSOLE_PATHS | {"/docs", "/docs/files", "/v1/events"},
}
"""Beside health and metrics: service → paths that may answer anonymous callers, each looked at."""


def _admin_app(built: Any) -> FastAPI:
    """Return the FastAPI app among what a service's `build` returns."""
    app = getattr(built, "app", built)
    candidates = [app, getattr(app, "_admin", None)]  # serving's front door hands all but /v2 to its admin app
    return next(candidate for candidate in candidates if isinstance(candidate, FastAPI))


@pytest.fixture(params=sorted(SERVICES))
async def service(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, FastAPI]:
    """One service's (name, app), built as in production and connected to nothing."""
    name: str = request.param
    prefix = f"MILLRACE_{name.upper().replace('-', '_')}"
    secret = tmp_path / "secret"
    secret.write_text(mint().text)
    secret.chmod(0o600)
    for variable in ("MILLRACE_S3_ACCESS_KEY_FILE", "MILLRACE_S3_SECRET_KEY_FILE", f"{prefix}_TOKEN_FILE"):
        monkeypatch.setenv(variable, str(secret))
    monkeypatch.setenv("MILLRACE_CATALOG_PEPPER_FILE", str(secret))
    monkeypatch.setenv("MILLRACE_TRAINER_WORK_FOLDER", str(tmp_path / "work"))
    monkeypatch.setenv("MILLRACE_SERVING_REPOSITORY", str(tmp_path / "repository"))
    settings, build = SERVICES[name]
    return name, _admin_app(build(settings(), SharedSettings()))


async def test_every_route_is_guarded_or_reviewed(service: tuple[str, FastAPI]) -> None:
    name, app = service
    allowed = ANONYMOUS_PATHS | {"/openapi.json"} | REVIEWED.get(name, frozenset())
    open_routes = [guard for guard in enumerate_routes(app) if guard.action is None]
    surprises = [guard for guard in open_routes if not any(_below(guard.path, path) for path in allowed)]
    assert surprises == []


async def test_every_guarded_route_refuses_an_anonymous_caller(service: tuple[str, FastAPI]) -> None:
    _, app = service
    guards = [guard for guard in enumerate_routes(app) if guard.action not in {None, "session"}]
    assert guards
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for guard in guards:
            path = re.sub(r"\{[^}]*\}", "x", guard.path)
            answer = await http.request(guard.method, path)
            assert answer.status_code == 401, f"{guard.method} {path}: {answer.status_code}"
            assert "www-authenticate" in answer.headers


def _below(path: str, allowed: str) -> bool:
    return path == allowed or (allowed.count("/") > 1 and path.startswith(f"{allowed}/"))
