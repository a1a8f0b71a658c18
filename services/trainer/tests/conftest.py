"""What the trainer's tests share: neighbours that answer over real HTTP, and the service on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from millrace.auth import Principal
from millrace.clock import SystemClock, new_id
from millrace.documents import Transactor, connect
from millrace.errors import Unauthenticated
from millrace.events import AnyEvent, TrainingRequested, build, decode
from millrace.objects.s3 import S3ObjectStore
from millrace.runtime import listen
from millrace.settings import SharedSettings
from trainer.adapters.mongo import MongoTrainer
from trainer.application.requests import record
from trainer.bootstrap import Trainer
from trainer.bootstrap import build as build_trainer
from trainer.domain.components import Components
from trainer.domain.jobs import Job
from trainer.settings import TrainerSettings

EPOCHS = Path(__file__).parent / "components" / "epochs.py"
COMMIT = "c" * 64
PRINCIPALS = {
    "owner": Principal("owner", "person", "*", frozenset({"owner"})),
    "viewer": Principal("viewer", "person", "default", frozenset({"viewer"})),
    "stranger": Principal("stranger", "person", "other", frozenset({"owner"})),
}


class KnownPrincipals:
    """An authenticator whose tokens are the names above."""

    async def authenticate(self, token: str) -> Principal:
        if token not in PRINCIPALS:
            raise Unauthenticated("no such token")
        return PRINCIPALS[token]


@dataclass
class Neighbours:
    """The catalog and the cache manager, as far as the trainer sees them: in memory, over real HTTP."""

    url: str = ""
    ready: bool = True
    away: bool = False
    data: str = "/nowhere"
    leases: dict[str, str] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    points: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    lines: dict[tuple[str, int, int], str] = field(default_factory=dict)
    stages: list[tuple[str, int, str]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    registrations: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refuse: str | None = None
    early: str | None = None
    fill_failed: str = ""
    wishes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    on_wish: Callable[[list[str]], None] | None = None

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/cache/leases", self.acquire, methods=["POST"]),
                Route("/v1/cache/leases/{lease}", self.lease, methods=["PUT", "DELETE"]),
                Route("/v1/cache/leases/{lease}/wanted", self.wanted, methods=["POST"]),
                Route("/v1/runs/{run}/{kind}", self.report, methods=["POST"]),
                Route("/v1/models/{model}/versions", self.register, methods=["POST"]),
            ]
        )

    async def acquire(self, request: Request) -> Response:
        body = await request.json()
        if not self.ready:
            return JSONResponse({"detail": "it is FETCHING", "code": "entry-not-ready"}, status_code=409)
        lease = f"lease-{body['run']}"
        self.leases[lease] = body["run"]
        early = self.early if body.get("early") else None
        return JSONResponse({"lease": lease, "path": self.data, "token": 1, "hit": early is None, "early": early})

    async def wanted(self, request: Request) -> Response:
        lease, body = request.path_params["lease"], await request.json()
        if lease not in self.leases or self.fill_failed:
            return JSONResponse({"detail": f"the lease is gone: {self.fill_failed}"}, status_code=409)
        self.wishes.append((lease, body))
        if self.on_wish is not None:
            self.on_wish(body["names"])
        return JSONResponse({"early": self.early, "reason": "fetching"})

    async def lease(self, request: Request) -> Response:
        lease = request.path_params["lease"]
        if request.method == "DELETE":
            self.leases.pop(lease, None)
            return Response(status_code=204)
        if lease not in self.leases:
            return JSONResponse({"detail": "the lease is gone"}, status_code=409)
        return JSONResponse({"lease": lease})

    async def report(self, request: Request) -> Response:
        run, kind, body = request.path_params["run"], request.path_params["kind"], await request.json()
        if self.away:
            return JSONResponse({"detail": "away"}, status_code=503)
        if body["fence"] < self.fences[run]:
            return JSONResponse({"detail": "a newer grant", "code": "fenced"}, status_code=409)
        self.fences[run] = body["fence"]
        for point in body.get("points", []):
            self.points[run, point["key"], point["step"]] = point["value"]
        for place, line in enumerate(body.get("lines", [])):
            self.lines[run, body["fence"], body["offset"] + place] = line["line"]
        self.stages += [(run, stage["code"], stage["message"]) for stage in body.get("stages", [])]
        assert kind in {"metrics", "logs", "stages"}
        return JSONResponse({"accepted": 1})

    async def register(self, request: Request) -> Response:
        body = await request.json()
        if self.away:
            return JSONResponse({"detail": "away"}, status_code=503)
        if self.refuse:
            return JSONResponse({"detail": self.refuse, "code": "invalid"}, status_code=400)
        self.registrations.append(body)
        self.headers.append(dict(request.headers))
        version = self.versions.setdefault(body["run"], len(self.versions) + 1)
        return JSONResponse({"model": request.path_params["model"], "version": version}, status_code=201)


@pytest.fixture
def neighbours(tmp_path: Path) -> Iterator[Neighbours]:
    """Serve catalog and cache manager from a thread, so that they answer while the test's own loop is busy."""
    made = Neighbours(data=str(tmp_path / "data"))
    sock = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(made.app(), log_config=None, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])))
    thread.start()
    made.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    yield made
    server.should_exit = True
    thread.join(10)
    sock.close()


def secret(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


async def eventually(
    check: Callable[[], Awaitable[Any]], *, seconds: float = 20.0, why: str | Callable[[], str] = ""
) -> Any:
    """Poll until `check` gives something true."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while not (found := await check()):
        assert clock.monotonic() < deadline, f"not within {seconds} s: {why() if callable(why) else why or check}"
        await asyncio.sleep(0.02)
    return found


@dataclass
class Lab:
    """A database, a bucket and neighbours; trainers in this process or as processes of their own."""

    folder: Path
    environment: dict[str, str]
    neighbours: Neighbours
    transact: Transactor[MongoTrainer]
    store: S3ObjectStore
    components: Components

    def settings(self, node: str = "node-a", **changes: Any) -> TrainerSettings:
        values: dict[str, Any] = {
            "mongo_uri_file": Path(self.environment["MILLRACE_TRAINER_MONGO_URI_FILE"]),
            "mongo_database": self.environment["MILLRACE_TRAINER_MONGO_DATABASE"],
            "token_file": Path(self.environment["MILLRACE_TRAINER_TOKEN_FILE"]),
            "node": node,
            "work_folder": self.folder / f"work-{node}",
            "components": {"epochs": (sys.executable, str(EPOCHS)), "absent": ("/no/such/command",)},
            "gpus": False,
            "cpu_slots": 1,
            "poll_seconds": 0.1,
            "renew_seconds": 0.5,
            "grace_seconds": 1.0,
        }
        return TrainerSettings(**{**values, **changes})

    def shared(self) -> SharedSettings:
        values: dict[str, Any] = {
            name.removeprefix("MILLRACE_").lower(): value
            for name, value in self.environment.items()
            if not name.startswith("MILLRACE_TRAINER_")
        }
        return SharedSettings(**values)

    @contextlib.asynccontextmanager
    async def trainer(self, node: str = "node-a", **changes: Any) -> AsyncIterator[Trainer]:
        built = build_trainer(self.settings(node, **changes), self.shared(), authenticator=KnownPrincipals())
        async with built.runtime.running():
            yield built

    def spawn(self, node: str = "node-a", failpoints: str = "") -> subprocess.Popen[bytes]:
        """Start a trainer as a process; its log goes to a file."""
        settings = self.settings(node)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")},
            **self.environment,
            "MILLRACE_TRAINER_NODE": node,
            "MILLRACE_TRAINER_WORK_FOLDER": str(settings.work_folder),
            "MILLRACE_TRAINER_COMPONENTS": '{"epochs": ["%s", "%s"]}' % (sys.executable, EPOCHS),  # noqa: UP031
            "MILLRACE_TRAINER_GPUS": "false",
            "MILLRACE_TRAINER_CPU_SLOTS": "1",
            "MILLRACE_TRAINER_POLL_SECONDS": "0.1",
            "MILLRACE_TRAINER_PORT": "0",
            "MILLRACE_FAILPOINTS": failpoints,
        }
        with (self.folder / f"{node}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "trainer"], env=environment, stdout=log, stderr=log)

    async def request(self, component: str = "epochs", *, run: str | None = None, **changes: Any) -> str:
        """Record a requested run, as the bus would."""
        values: dict[str, Any] = {"model": None, "params": {}, "gpus": 1, "priority": 0}
        run = run or str(new_id())
        data = TrainingRequested(
            run=run,
            dataset="digits",
            version=1,
            commit=COMMIT,
            site="nfs-a",
            component=component,
            **{**values, **changes},
        )
        event = build(data, source="/test", subject=run, project="default", sequence=1, clock=SystemClock())
        await self.deliver(event)
        return run

    async def deliver(self, event: AnyEvent) -> None:
        async def work(uow: MongoTrainer) -> None:
            await record(event, uow=uow, components=self.components, clock=SystemClock(), kick=lambda: None)

        await self.transact(work, inbox=("trainer-on-training-requested", event.id))

    async def job(self, run: str) -> Job:
        found = await self.transact(lambda uow: uow.jobs.get(run))
        assert found is not None
        return found

    async def until(self, run: str, *states: str, seconds: float = 20.0) -> Job:
        async def there() -> Job | None:
            job = await self.job(run)
            return job if job.state in states else None

        try:
            found: Job = await eventually(there, seconds=seconds, why=f"run {run} to be {states}")
        except AssertionError:
            job = await self.job(run)
            raise AssertionError(f"{job.state}: {job.reason}\n{self.log()}") from None
        return found

    async def events(self, run: str) -> list[AnyEvent]:
        """Return what was said about a run, in order."""
        rows = self.transact.database["outbox"].find({"aggregate": f"default/training/{run}"})
        found = [decode(row["raw"]) async for row in rows]
        return sorted(found, key=lambda event: event.sequence)

    async def kinds(self, run: str) -> list[str]:
        return [event.type.removeprefix("training.") for event in await self.events(run)]

    def log(self) -> str:
        lines = [line for path in self.folder.glob("*.log") for line in path.read_text().splitlines()]
        return "\n".join(line for line in lines if "outbox waits" not in line)[-6_000:]


@pytest.fixture
async def lab(  # noqa: PLR0917
    tmp_path: Path, mongo_server: Any, mongo_database_name: str, s3_server: Any, s3_bucket: str, neighbours: Neighbours
) -> AsyncIterator[Lab]:
    (tmp_path / "data").mkdir()
    environment = {
        "MILLRACE_NATS_URL": "nats://127.0.0.1:9",
        "MILLRACE_CATALOG_URL": neighbours.url,
        "MILLRACE_CACHE_MANAGER_URL": neighbours.url,
        "MILLRACE_S3_ENDPOINT": s3_server.endpoint,
        "MILLRACE_S3_BUCKET": s3_bucket,
        "MILLRACE_S3_ACCESS_KEY_FILE": str(secret(tmp_path, "s3-access", s3_server.access_key)),
        "MILLRACE_S3_SECRET_KEY_FILE": str(secret(tmp_path, "s3-secret", s3_server.secret_key)),
        "MILLRACE_TRAINER_MONGO_URI_FILE": str(secret(tmp_path, "mongo", mongo_server.uri)),
        "MILLRACE_TRAINER_MONGO_DATABASE": mongo_database_name,
        "MILLRACE_TRAINER_TOKEN_FILE": str(secret(tmp_path, "token", "the-trainers-token")),
    }
    client = connect(mongo_server.uri, app_name="trainer-test")
    transact = Transactor(client, mongo_database_name, MongoTrainer, clock=SystemClock(), source="/millrace/trainer")
    store = S3ObjectStore(
        endpoint=s3_server.endpoint,
        bucket=s3_bucket,
        region=s3_server.region,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
    components = Components({"epochs": (sys.executable, str(EPOCHS)), "absent": ("/no/such/command",)})
    yield Lab(tmp_path, environment, neighbours, transact, store, components)
    await store.close()
    await client.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours by SIGKILL and reap it."""
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
