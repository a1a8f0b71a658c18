"""A cache manager of real parts on a real mongod, without bus and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cache_manager.adapters.site_folder import DiskSite
from cache_manager.application.cache import Cache
from cache_manager.application.fsck import fsck
from cache_manager.application.ports import KnownVersion
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.bootstrap import Engine, assemble
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Asked, Cause, Entry
from cache_manager.domain.names import EntryKey
from cache_manager.settings import CacheManagerSettings, SiteSetting
from millrace.clock import SystemClock, new_id
from millrace.datasets.commit import Commit
from millrace.datasets.pack import read_pack
from millrace.datasets.push import push
from millrace.datasets.stored import save_commit
from millrace.documents import connect
from millrace.documents.client import Client
from millrace.errors import NotFound
from millrace.events import decode
from millrace.events.envelope import AnyEvent
from millrace.objects.s3 import S3ObjectStore
from millrace.testing.objects import InMemoryObjectStore

from .integration.patience import PATIENCE

DEADLINE = 60.0 * PATIENCE


class CountingStore(InMemoryObjectStore):
    """Counts how often each object is read; may be told to wait or to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        self.before: Callable[[str], Awaitable[None]] | None = None

    async def get(self, key: str) -> bytes:
        await self._count(key)
        return await super().get(key)

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        await self._count(key)
        return await super().get_ranges(key, ranges)

    async def _count(self, key: str) -> None:
        self.reads[key] += 1
        if self.before is not None:
            await self.before(key)

    def file_packs(self) -> list[str]:
        """Return the keys of the packs that hold files, and no spare copies of manifests."""
        packs = [key for key in self.objects if "/packs/" in key]
        return [key for key in packs if not any(blob.flags for blob, _ in read_pack(self.objects[key]))]

    def pack_reads(self) -> dict[str, int]:
        return {key: count for key, count in self.reads.items() if "/packs/" in key or "/chunks/" in key}


class FakeCatalog:
    """Knows the versions that the test made."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, str, str], KnownVersion] = {}

    async def version(self, project: str, dataset: str, reference: str) -> KnownVersion:
        try:
            return self.versions[project, dataset, reference]
        except KeyError:
            raise NotFound(f"no version {reference} of {dataset}") from None


@dataclass
class Telemetry:
    """Keeps what would be told."""

    said: list[Entry] = field(default_factory=list)

    async def progress(self, entry: Entry) -> None:
        self.said.append(entry)


@dataclass
class Lab:
    """A lake, a database and a site; any number of cache managers on them."""

    store: CountingStore
    client: Client
    database: str
    site: Path
    scratch: Path
    catalog: FakeCatalog = field(default_factory=FakeCatalog)
    telemetry: Telemetry = field(default_factory=Telemetry)
    engines: list[Engine] = field(default_factory=list)

    def settings(self, **changes: Any) -> CacheManagerSettings:
        given = {
            "mongo_database": self.database,
            "sites": (SiteSetting(site="nfs-a", path=str(self.site), capacity_bytes=10_000_000),),
            "takeover_seconds": 5.0,
            "grace_seconds": 0.0,
            "first_retry_seconds": 0.01,
            "last_retry_seconds": 0.1,
            **changes,
        }
        return CacheManagerSettings(**given)

    async def manager(self, **changes: Any) -> Engine:
        engine = assemble(
            self.settings(**changes),
            self.client,
            self.store,
            catalog=self.catalog,
            telemetry=self.telemetry,
            clock=SystemClock(),
        )
        self.engines.append(engine)
        await engine.prepare()
        await engine.folders.refresh(engine.world.sites)
        return engine

    async def version(
        self,
        number: int = 1,
        *,
        files: int = 40,
        size: int = 900,
        dataset: str = "digits",
        project: str = "default",
        like: int | None = None,
    ) -> KnownVersion:
        """Commit a version with `files` files to the lake; `like` another version, files of one name are equal."""
        root = self.scratch / f"{dataset}-{number}"
        for index in range(files):
            path = root / "train" / str(index % 10) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{dataset} {like or number} {index} ".encode().ljust(size, b"."))
        pushed = await push(root, self.store, project=project)
        commit = Commit(
            root=pushed.tree_root,
            manifest=pushed.manifest_id,
            files=pushed.files,
            bytes=pushed.bytes,
            author="test",
            time=SystemClock().now(),
        )
        await save_commit(self.store, project, commit)
        known = KnownVersion(dataset, number, commit.id)
        for reference in (str(number), commit.id):
            self.catalog.versions[project, dataset, reference] = known
        return known

    async def events(self) -> list[AnyEvent]:
        """Return the events in the outbox, in the order of their making."""
        rows = self.client[self.database]["outbox"].find().sort("_id", 1)
        return [decode(bytes(row["raw"])) async for row in rows]

    async def event_types(self) -> list[str]:
        return [event.type for event in await self.events()]

    def key(self, version: KnownVersion, *, site: str = "nfs-a", project: str = "default") -> EntryKey:
        return EntryKey(site, project, version.commit)

    async def ask(self, engine: Engine, version: KnownVersion, *, desired: Any = "present", **changes: Any) -> None:
        """Record a wish as the bus handler does."""
        given = {
            "site": "nfs-a",
            "project": "default",
            "dataset": version.dataset,
            "version": version.version,
            "commit": version.commit,
            "desired": desired,
            "asked": Asked(version.version, str(new_id())),
            "cause": Cause(),
            **changes,
        }

        async def work(uow: Any) -> Any:
            return await request_cache(RequestCache(**given), uow=uow, clock=engine.world.clock)

        await engine.transactor(work)

    async def step(self, *engines: Engine) -> None:
        """Let each manager pass once and finish what it began."""
        for engine in engines:
            await engine.folders.refresh(engine.world.sites)
            await engine.attendance.step()
        for engine in engines:
            await engine.attendance.idle()

    async def until(self, condition: Callable[[], Awaitable[Any]], *engines: Engine, seconds: float = DEADLINE) -> Any:
        """Let the managers work until `condition` returns something true, and return it."""
        deadline = time.monotonic() + seconds
        while not (result := await condition()):
            if time.monotonic() > deadline:
                pytest.fail("the condition was not met in time")
            await self.step(*engines)
            await asyncio.sleep(0.01)
        return result

    async def until_state(self, engine: Engine, key: EntryKey, state: str, **options: Any) -> Entry:
        """Let a manager work until the entry is in `state`."""

        async def reached() -> Entry | None:
            entry = await engine.world.entries.get(key.id)
            return entry if entry is not None and entry.state == state else None

        found: Entry = await self.until(reached, engine, **options)
        return found

    async def set(self, version: KnownVersion, **fields: Any) -> None:
        """Change what is remembered of a version's entry."""
        await self.client[self.database]["entries"].update_one({"_id": self.key(version).id}, {"$set": fields})

    async def ready(self, engine: Engine, version: KnownVersion) -> Entry:
        """Bring a version to READY."""
        await self.ask(engine, version)
        return await self.until_state(engine, self.key(version), "READY")

    async def charged(self, engine: Engine) -> Charge:
        """Return what is charged against the site."""
        site = await engine.world.sites.get("nfs-a")
        assert site is not None
        return site.charged

    async def violations(self, engine: Engine, *, deep: bool = True) -> list[Any]:
        """Return what fsck finds."""
        return list((await fsck(engine.world, deep=deep))["violations"])


@pytest.fixture
def site_root(tmp_path: Path) -> Iterator[Path]:
    """The folder of the test's site: a local one, or a new one of the mount that `make test-nfs` names."""
    mount = os.environ.get("MILLRACE_TEST_SITE_ROOT")
    root = Path(mount) / new_id().hex / "nfs-a" if mount else tmp_path / "nfs-a"
    root.parent.mkdir(exist_ok=True)
    yield root
    if mount:
        shutil.rmtree(root.parent, ignore_errors=True)


def _seen_from(variable: str, path: str | Path) -> Path:
    """Return a path of the site as it is on the mount that `variable` names; the same path if it names none."""
    mount = os.environ.get(variable)
    return Path(path) if mount is None else Path(mount) / Path(path).relative_to(os.environ["MILLRACE_TEST_SITE_ROOT"])


@pytest.fixture
def as_node() -> Callable[[str | Path], Path]:
    """Return how a compute node sees a path of the site: by a mount of its own under `make test-nfs`."""
    return functools.partial(_seen_from, "MILLRACE_TEST_NODE_ROOT")


@pytest.fixture
def other_host(lab: Lab) -> Iterator[DiskSite]:
    """The site's folder as a cache manager on another host has it: by a mount of its own under `make test-nfs`."""
    there = DiskSite("nfs-a", _seen_from("MILLRACE_TEST_OTHER_ROOT", lab.site))
    yield there
    there.close()


@pytest.fixture
async def lab(mongo_server: Any, mongo_database_name: str, site_root: Path) -> AsyncIterator[Lab]:
    client = connect(mongo_server.uri, app_name="test")
    made = Lab(CountingStore(), client, mongo_database_name, site_root, site_root.with_name("scratch"))
    yield made
    for engine in made.engines:
        await engine.close()
    await client.close()


class Processes:
    """Cache managers as processes of their own, on the same database, lake and site as a lab."""

    def __init__(self, zygote: subprocess.Popen[str], lab: Lab, mongo: str, s3: dict[str, str]) -> None:
        self._zygote, self._lab, self._mongo, self._s3 = zygote, lab, mongo, s3
        self.started: list[int] = []

    def start(self, *, s3: dict[str, str] | None = None, settings: dict[str, Any] | None = None, **more: Any) -> int:
        """Start one and return its process id."""
        given = self._lab.settings(**(settings or {})).model_dump(mode="json", exclude={"mongo_uri", "token"})
        log = str(self._lab.scratch.parent / f"worker-{len(self.started)}.log")
        job = {"mongo": self._mongo, "s3": s3 or self._s3, "settings": given, "log": log, **more}
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(job) + "\n")
        self._zygote.stdin.flush()
        pid = int(self._zygote.stdout.readline())
        self.started.append(pid)
        return pid

    def alive(self, pid: int) -> bool:
        """Return whether a process that was started still runs."""
        return Path(f"/proc/{pid}").exists()

    async def kill(self, pid: int) -> None:
        """Kill a process that was started, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while self.alive(pid):
                await asyncio.sleep(0.005)

    def logs(self) -> str:
        """Return what the processes said."""
        return "\n".join(path.read_text() for path in sorted(self._lab.scratch.parent.glob("worker-*.log")))


@pytest.fixture(scope="session")
def zygote() -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running
        assert running.stdin is not None
        running.stdin.close()


@pytest.fixture
async def s3_lab(
    mongo_server: Any, mongo_database_name: str, s3_server: Any, s3_bucket: str, site_root: Path
) -> AsyncIterator[Lab]:
    """A lab whose lake is a bucket of a real server."""
    client = connect(mongo_server.uri, app_name="test")
    store = S3ObjectStore(**_keys(s3_server, s3_bucket))
    made = Lab(store, client, mongo_database_name, site_root, site_root.with_name("scratch"))  # type: ignore[arg-type]
    yield made
    for engine in made.engines:
        await engine.close()
    await store.close()
    await client.close()


@pytest.fixture
async def processes(
    s3_lab: Lab, zygote: subprocess.Popen[str], mongo_server: Any, s3_server: Any, s3_bucket: str
) -> AsyncIterator[Processes]:
    made = Processes(zygote, s3_lab, mongo_server.uri, _keys(s3_server, s3_bucket))
    yield made
    for pid in made.started:
        await made.kill(pid)


def _keys(server: Any, bucket: str) -> dict[str, Any]:
    return {
        "endpoint": server.endpoint,
        "bucket": bucket,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


@pytest.fixture
async def manager(lab: Lab) -> Engine:
    return await lab.manager()


@pytest.fixture
def cache(manager: Engine) -> Cache:
    return Cache(manager.world)
