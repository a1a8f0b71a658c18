"""An ingest of real parts on a real mongod and a real S3, with a catalog that keeps the catalog's promises."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingest.application.fsck import fsck
from ingest.application.ports import Committed, Head
from ingest.application.receive import receive_landing
from ingest.bootstrap import Engine, assemble
from ingest.domain.jobs import Job
from ingest.errors import HeadMoved, KeyReused
from ingest.settings import IngestSettings
from millrace.clock import SystemClock
from millrace.datasets.commit import Commit
from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.stored import load_commit, load_manifest, save_commit
from millrace.documents import connect
from millrace.documents.client import Client
from millrace.events import DataLanded, build, decode
from millrace.events.envelope import AnyEvent
from millrace.objects import ObjectStore
from millrace.objects.s3 import S3ObjectStore
from millrace.records import Record
from millrace.records.stored import load_records

DEADLINE = 60.0


@dataclass
class FakeCatalog:
    """Advances heads by compare-and-set and answers the same key with the same answer, as the real one does."""

    store: ObjectStore
    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    commits: int = 0
    before_commit: Callable[[], Awaitable[None]] | None = None
    after_commit: Callable[[], Awaitable[None]] | None = None

    async def head(self, job: Job) -> Head | None:
        versions = self.versions.setdefault(f"{job.project}/{job.dataset}", [])
        return Head(versions[-1]["version"], versions[-1]["commit"]) if versions else None

    async def commit(self, job: Job, body: Mapping[str, Any]) -> Committed:
        if self.before_commit is not None:
            await self.before_commit()
        mark = json.dumps(body, sort_keys=True)
        if job.id in self.answers:
            said, answer = self.answers[job.id]
            if said != mark:
                raise KeyReused("this key was used for another request")
            return self._committed(answer)
        answer = await self._advance(f"{job.project}/{job.dataset}", job.project, body)
        if answer.pop("new"):
            self.answers[job.id] = (mark, answer)
        if self.after_commit is not None:
            await self.after_commit()
        return self._committed(answer)

    async def _advance(self, name: str, project: str, body: Mapping[str, Any]) -> dict[str, Any]:
        versions = self.versions.setdefault(name, [])
        head = versions[-1] if versions else None
        if head is not None and head["tree_root"] == body["tree_root"]:
            return {**head, "new": False}
        if body["parent"] != (head["commit"] if head else None):
            raise HeadMoved("the head moved")
        commit = Commit(
            parents=(body["parent"],) if body["parent"] else (),
            root=body["tree_root"],
            manifest=body["manifest"],
            files=body["files"],
            bytes=body["bytes"],
            author="ingest",
            message=body["message"],
            time=SystemClock().now(),
            lineage=body["lineage"],
            records=body["records"],
        )
        manifest = await load_manifest(self.store, project, body["manifest"])
        (await load_records(self.store, project, body["records"])).check_against(manifest)
        await save_commit(self.store, project, commit)
        row = {**body, "dataset": name.split("/")[1], "version": len(versions) + 1, "commit": commit.id}
        versions.append(row)
        self.commits += 1
        return {**row, "new": True}

    async def made_by(self, job: Job) -> Committed | None:
        for row in self.versions.get(f"{job.project}/{job.dataset}", []):
            if row["lineage"].get("event") == job.id:
                return self._committed(row)
        return None

    def _committed(self, row: Mapping[str, Any]) -> Committed:
        return Committed(row["dataset"], row["version"], row["commit"], row["files"], row["bytes"])


@dataclass
class Lab:
    """A lake, a database and a catalog; any number of ingests on them."""

    bucket: str
    open: Callable[[str], ObjectStore]
    client: Client
    database: str
    catalog: FakeCatalog
    secret: Path
    engines: list[Engine] = field(default_factory=list)

    @property
    def store(self) -> ObjectStore:
        return self.open(self.bucket)

    async def ingest(self, **changes: Any) -> Engine:
        given = {
            "mongo_database": self.database,
            "takeover_seconds": 5.0,
            "first_retry_seconds": 0.01,
            "last_retry_seconds": 0.05,
            "pseudonym_secret_file": self.secret,
            **changes,
        }
        engine = assemble(
            IngestSettings(**given), self.client, self.bucket, self.open, catalog=self.catalog, clock=SystemClock()
        )
        self.engines.append(engine)
        await engine.prepare()
        return engine

    async def land(self, prefix: str, files: Mapping[str, bytes]) -> str:
        """Put files below a prefix and return its URI."""
        await asyncio.gather(*(self.store.put(f"{prefix}{path}", data) for path, data in files.items()))
        return f"s3://{self.bucket}/{prefix}"

    def event(self, uri: str, *, dataset: str = "digits", project: str = "default", **data: Any) -> AnyEvent:
        landed = DataLanded(dataset=dataset, uri=uri, **data)
        return build(
            landed,
            source="/factory",
            subject="s",
            project=project,
            sequence=1,
            clock=SystemClock(),
            correlation="story-1",
        )

    async def receive(self, engine: Engine, event: AnyEvent) -> None:
        """Record an event as the bus does, inbox included."""

        async def work(uow: Any) -> None:
            await receive_landing(event, uow=uow, clock=engine.world.clock)

        await engine.transactor(work, inbox=("ingest-on-data-landed", event.key))

    async def until_ended(self, engine: Engine, job_id: str, seconds: float = DEADLINE) -> Job:
        """Let an ingest work until the job has ended."""
        deadline = time.monotonic() + seconds
        while True:
            await engine.attendance.step()
            await engine.attendance.idle()
            job = await engine.world.jobs.get(job_id)
            if job is not None and job.state in {"COMPLETED", "FAILED"}:
                return job
            if time.monotonic() > deadline:
                pytest.fail(f"the job did not end: {job}")
            await asyncio.sleep(0.01)

    async def take(self, engine: Engine, uri: str, **data: Any) -> Job:
        """Land an event and wait for its job's end."""
        event = self.event(uri, **data)
        await self.receive(engine, event)
        return await self.until_ended(engine, event.key)

    async def paths(self, commit: str, project: str = "default") -> list[str]:
        """Return the paths of a version."""
        stored = await load_commit(self.store, project, commit)
        return (await load_manifest(self.store, project, stored.manifest)).paths

    async def contents(self, commit: str, project: str = "default") -> dict[str, bytes]:
        """Return the files of a version, read from packs and chunks."""
        stored = await load_commit(self.store, project, commit)
        manifest = await load_manifest(self.store, project, stored.manifest)
        found = {}
        for entry in manifest.entries():
            if entry.pack is not None:
                key = pack_key(project, manifest.packs[entry.pack].id)
                found[entry.path] = await self.store.get_range(key, entry.offset, entry.size)
            else:
                parts = [await self.store.get(chunk_key(project, chunk.hex())) for chunk in entry.chunks]
                found[entry.path] = b"".join(parts)
        return found

    async def records(self, commit: str, project: str = "default") -> list[Record]:
        """Return the records of a version."""
        stored = await load_commit(self.store, project, commit)
        return list((await load_records(self.store, project, stored.records)).records())

    async def events(self) -> list[AnyEvent]:
        """Return the events in the outbox, in the order of their making."""
        rows = self.client[self.database]["outbox"].find().sort("_id", 1)
        return [decode(bytes(row["raw"])) async for row in rows]

    async def violations(self, engine: Engine) -> list[Any]:
        """Return what fsck finds."""
        return list((await fsck(engine.world, engine.lake))["violations"])


@pytest.fixture
async def lab(
    mongo_server: Any, mongo_database_name: str, s3_server: Any, s3_bucket: str, tmp_path: Path
) -> AsyncIterator[Lab]:
    stores: dict[str, S3ObjectStore] = {}

    def opened(bucket: str) -> ObjectStore:
        if bucket not in stores:
            stores[bucket] = S3ObjectStore(
                endpoint=s3_server.endpoint,
                bucket=bucket,
                region=s3_server.region,
                access_key=s3_server.access_key,
                secret_key=s3_server.secret_key,
            )
        return stores[bucket]

    client = connect(mongo_server.uri, app_name="test")
    secret = tmp_path / "pseudonyms.secret"
    secret.write_text("a secret of the tests, and long enough")
    secret.chmod(0o600)
    made = Lab(s3_bucket, opened, client, mongo_database_name, FakeCatalog(opened(s3_bucket)), secret)
    yield made
    for engine in made.engines:
        await engine.close()
    for store in stores.values():
        await store.close()
    await client.close()
