"""A gateway small enough to fail on demand: the dataset routes on a real object store, and canned answers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from millrace.datasets.keys import object_key
from millrace.datasets.stored import load_manifest
from millrace.errors import Conflict, MillraceError, NotFound, Unavailable
from millrace.objects import Lake, ObjectStore, Presigned
from millrace.sealing import ProjectKey, SealedStore

TOKEN = "secret-of-the-test"
MINUTE = timedelta(minutes=1)


class Gateway:
    """What the tests see of it: the requests that came, and the failures to come."""

    def __init__(self, store: Lake | None = None) -> None:
        self.store = store
        self.tells_headers = True
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.failures: list[MillraceError | Response] = []
        self.answers: dict[tuple[str, str], Any] = {}
        self.versions: list[dict[str, Any]] = []
        self.demanded: list[dict[str, Any]] = []
        self.attested: dict[str, str] = {}
        self.key: ProjectKey | None = None
        self.app = FastAPI()
        self.app.middleware("http")(self._observe)
        self.app.add_api_route("/v1/datasets/{name}", self.dataset, methods=["GET", "PUT"])
        self.app.add_api_route("/v1/encryption", self.encryption, methods=["GET"])
        self.app.add_api_route("/v1/encryption/key", self.encryption_key, methods=["GET"])
        self.app.add_api_route("/v1/datasets/{name}/checks", self.checks, methods=["GET"])
        self.app.add_api_route("/v1/datasets/{name}/uploads", self.uploads, methods=["POST"])
        self.app.add_api_route("/v1/datasets/{name}/commits", self.commits, methods=["POST"])
        self.app.add_api_route("/v1/datasets/{name}/versions", self.list_versions, methods=["GET"])
        self.app.add_api_route("/v1/datasets/{name}/versions/{ref}", self.version, methods=["GET"])
        self.app.add_api_route("/v1/datasets/{name}/versions/{ref}/downloads", self.downloads, methods=["POST"])

    async def _observe(self, request: Request, go_on: Any) -> Any:
        self.requests.append((request.method, request.url.path, dict(request.headers)))
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"detail": "who are you?", "code": "unauthenticated"}, 401)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, MillraceError):
                return JSONResponse(failure.to_problem(), failure.status, {"x-request-id": "r-1"})
            return failure
        canned = self.answers.get((request.method, request.url.path))
        if canned is not None:
            return canned if isinstance(canned, Response) else JSONResponse(canned)
        try:
            return await go_on(request)
        except MillraceError as error:
            return JSONResponse(error.to_problem(), error.status)

    async def dataset(self, name: str) -> dict[str, Any]:
        head = self.versions[-1] if self.versions else None
        facts = {"name": name, "description": "", "head": head, "revision": 1, "checks": bool(self.demanded)}
        return {**facts, "created_at": "2026-01-01T00:00:00Z"}

    def demand(self, checks: list[dict[str, Any]]) -> None:
        """Let the dataset demand checks of every version."""
        self.demanded = checks

    async def checks(self, name: str) -> dict[str, Any]:
        return {"checks": self.demanded, "digest": "0" * 64}

    async def uploads(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("sealed") != (self.key and self.key.id):
            raise Conflict("the project is encrypted")
        items = []
        for item in body["objects"]:
            key = object_key("default", item["kind"], item["id"])
            there = await self.lake.head(key) is not None
            put = None if there else await self.lake.presign("PUT", key, expires=MINUTE)
            items.append(self._opened(item, put))
        return {"items": items, "next": None}

    def _opened(self, item: dict[str, Any], request: Presigned | None) -> dict[str, Any]:
        opened = {"id": item["id"], "url": None if request is None else request.url}
        if self.tells_headers:
            opened["headers"] = {} if request is None else dict(request.headers)
        return opened

    async def downloads(self, name: str, ref: str, body: dict[str, Any]) -> dict[str, Any]:
        version = await self.version(name, ref)
        manifest = await load_manifest(self.lake, "default", version["manifest"])
        known = {pack.id for pack in manifest.packs} | manifest.chunk_ids() | {version["manifest"]}
        items = []
        for item in body["objects"]:
            if item["id"] not in known:
                raise NotFound("no part of this version")
            key = object_key("default", item["kind"], item["id"])
            items.append(self._opened(item, await self.lake.presign("GET", key, expires=MINUTE)))
        return {"items": items, "next": None}

    async def commits(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        manifest = await load_manifest(self.lake, "default", body["manifest"])
        for pack in body["packs"]:
            if await self.lake.head(object_key("default", "packs", pack)) is None:
                raise NotFound(f"pack {pack} is not in the lake")
        assert (manifest.tree_root, manifest.files, manifest.bytes) == (
            body["tree_root"],
            body["files"],
            body["bytes"],
        )
        self.attested = body.get("attested", {})
        number = len(self.versions) + 1
        made = {key: body[key] for key in ("manifest", "tree_root", "files", "bytes", "message", "parent")}
        made |= {"version": number, "commit": f"{number:064x}", "author": "t", "created_at": "2026-01-01T00:00:00Z"}
        self.versions.append(made)
        return made

    async def list_versions(self, name: str) -> dict[str, Any]:
        return {"items": self.versions[::-1], "next": None}

    async def version(self, name: str, ref: str) -> dict[str, Any]:
        if not self.versions or (ref != "latest" and int(ref) > len(self.versions)):
            raise NotFound("no version yet")
        return self.versions[-1 if ref == "latest" else int(ref) - 1]

    async def encryption(self) -> dict[str, Any]:
        return {"encrypted": self.key is not None, "settled": True}

    async def encryption_key(self) -> dict[str, Any]:
        assert self.key is not None
        return {"key": self.key.text}

    async def key_of(self, project: str) -> ProjectKey | None:
        assert project == "default"
        return self.key

    @property
    def lake(self) -> ObjectStore:
        if self.store is None:
            raise Unavailable("this gateway has no lake")
        return SealedStore(self.store, self)


@contextmanager
def serving(gateway: Gateway) -> Iterator[Gateway]:
    """Serve on a free port of the loopback, in a thread, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gateway.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(gateway.app, log_level="error", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield gateway
        finally:
            server.should_exit = True
            thread.join(20)
