"""The catalog on real servers: mongod, SeaweedFS, nats-server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
from fastapi import FastAPI

from catalog.adapters.schema import MIGRATIONS
from catalog.bootstrap import Parts, assemble, forwarding, run_in
from catalog.entrypoints import jobs
from catalog.entrypoints.forward import Forwarder
from catalog.entrypoints.http import make_app
from catalog.settings import CatalogSettings
from millrace.auth import mint
from millrace.bus.provision import Provisioner
from millrace.clock import SystemClock
from millrace.datasets.push import PushResult, push
from millrace.documents.migrations import migrate
from millrace.objects.lake import open_lake
from millrace.runtime import Runtime
from millrace.settings import SharedSettings

ROLES = {
    "owner": ("owner", "*"),
    "viewer": ("viewer", "default"),
    "contributor": ("contributor", "default"),
    "foreigner": ("admin", "elsewhere"),
    "service-trainer": ("service-trainer", "*"),
    "service-ingest": ("service-ingest", "*"),
    "service-serving": ("service-serving", "*"),
    "etl": ("etl", "default"),
}


async def until(what: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> Any:
    """Poll `what` until it is true, and return it."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await what()
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Gateway:
    """The app, its parts, and a token per role."""

    app: FastAPI
    parts: Parts
    tokens: dict[str, str]
    folder: Path

    def client(self, who: str | None = "owner", **options: Any) -> httpx.AsyncClient:
        """Return a client that speaks as `who`."""
        headers = {"authorization": f"Bearer {self.tokens[who]}"} if who else {}
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers, timeout=30, **options)

    async def call(self, method: str, path: str, *, who: str | None = "owner", **options: Any) -> httpx.Response:
        """Make one request."""
        async with self.client(who) as client:
            return await client.request(method, path, **options)

    async def push(self, **files: bytes) -> PushResult:
        """Upload files as a manifest."""
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / f"{name}.txt").write_bytes(data)
        return await push(folder, self.parts.store, project="default")

    async def commit(
        self, pushed: PushResult, parent: str | None = None, *, dataset: str = "digits", who: str = "owner", **more: Any
    ) -> httpx.Response:
        """Commit what was pushed."""
        headers = more.pop("headers", {})
        body = {
            "manifest": pushed.manifest_id,
            "tree_root": pushed.tree_root,
            "files": pushed.files,
            "bytes": pushed.bytes,
            "packs": list(pushed.packs),
            "parent": parent,
            **more,
        }
        return await self.call("POST", f"/v1/datasets/{dataset}/commits", who=who, json=body, headers=headers)

    async def settle(self) -> None:
        """Let every reconciler make a step, until policies have nothing due."""
        catalog = self.parts.catalog
        for worker in (jobs.policies, jobs.numbers, jobs.chain, jobs.projections):
            reconciler = worker(catalog)
            assert await reconciler._attempt(), reconciler.failure


@pytest.fixture
async def parts(mongo_server, mongo_database_name, s3_server, s3_bucket, tmp_path) -> AsyncIterator[Parts]:
    """The parts of a catalog with a database and a bucket of its own; nothing runs."""
    secret = {"mongo": mongo_server.uri, "access": s3_server.access_key, "secret": s3_server.secret_key}
    secret["pepper"] = secrets.token_hex(16)
    secret["master"] = secrets.token_hex(32)
    for name, text in secret.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    entries = []
    for who, (role, project) in ROLES.items():
        (tmp_path / f"{who}.token").write_text(mint("test").text)
        (tmp_path / f"{who}.token").chmod(0o600)
        entries.append({"token_file": f"{who}.token", "principal": who, "roles": [role], "project": project})
    (tmp_path / "bootstrap.json").write_text(json.dumps(entries))
    settings = CatalogSettings(
        mongo_uri_file=tmp_path / "mongo",
        mongo_database=mongo_database_name,
        pepper_file=tmp_path / "pepper",
        master_key_file=tmp_path / "master",
        bootstrap_file=tmp_path / "bootstrap.json",
        webhook_origins=("eventgrid.azure.net",),
    )
    shared = SharedSettings(
        environment="test",
        s3_endpoint=s3_server.endpoint,
        s3_bucket=s3_bucket,
        s3_region=s3_server.region,
        s3_access_key_file=tmp_path / "access",
        s3_secret_key_file=tmp_path / "secret",
        cache_manager_url="http://127.0.0.1:9",
        nats_url="nats://127.0.0.1:9",
    )
    made = assemble(settings, shared, open_lake(shared))
    yield made
    await made.bus.stop()
    await made.http.aclose()
    await made.painter.close()
    await made.zone.close()
    await made.store.close()
    await made.client.close()


def _gateway(parts: Parts, runtime: Runtime, folder: Path) -> Gateway:
    app = make_app(
        parts.catalog,
        runtime=runtime,
        authenticator=parts.authenticator,
        forwarder=Forwarder(forwarding(parts.shared), parts.http),
    )
    tokens = {who: (folder / f"{who}.token").read_text() for who in ROLES}
    return Gateway(app, parts, tokens, folder / "trees")


@pytest.fixture
async def gateway(parts: Parts, tmp_path: Path) -> Gateway:
    """The API with nothing running behind it: `settle()` makes the reconcilers' steps."""
    from catalog.application.tokens import install_tokens, read_bootstrap

    await migrate(parts.transactor.database, MIGRATIONS, clock=parts.clock)
    path = parts.settings.bootstrap_file
    assert path is not None
    wanted = read_bootstrap(path)
    await parts.catalog.in_unit(install_tokens, wanted, path.parent, pepper=parts.catalog.pepper, clock=parts.clock)
    return _gateway(parts, Runtime("catalog", clock=SystemClock()), tmp_path)


async def fresh_broker(url: str) -> None:
    """Provision the broker, and empty the streams of what tests before have left there."""
    await asyncio.wait_for(Provisioner(servers=url).run(once=True), 20)
    client = await nats.connect(url)
    for stream in ("EVENTS", "DLQ"):
        await client.jetstream().purge_stream(stream)
    await client.close()


@pytest.fixture
async def live(parts: Parts, nats_server, tmp_path: Path, monkeypatch) -> AsyncIterator[Gateway]:
    """A whole catalog that runs: bus, relay and reconcilers."""
    await fresh_broker(nats_server.url)
    monkeypatch.setattr(parts.bus, "_servers", [nats_server.url])
    runtime = Runtime("catalog", clock=SystemClock())
    run_in(runtime, parts)
    gateway = _gateway(parts, runtime, tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(gateway.app.router.lifespan_context(gateway.app))

        async def ready() -> bool:
            return (await gateway.call("GET", "/readyz", who=None)).status_code == 200

        await until(ready)
        yield gateway
