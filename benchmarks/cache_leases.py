"""How long a run waits for its lease on a copy that is there: p50 and p99 of grants at 1, 16 and 100 clients at once.

    python benchmarks/cache_leases.py [--rounds 30] [--clients 1 16 100] [--json FILE]

A cache manager with its HTTP server runs in a process of its own, on a real mongod (`w:majority, j:true`). In each
round every client sends one `POST /v1/cache/leases` for a run of its own, all at the same moment, over a connection
that is open already; the leases are released before the next round. Clients speak bare HTTP, so that their cost does
not count as the service's. Rows:

* http: from the first byte sent to the last received, as a trainer sees it;
* cpu: what a grant costs the service's process, in milliseconds; unlike the times it hardly depends on neighbours;
* inside: the same number of grants at once in the service's process, without HTTP;
* floor: the same number of single `findOneAndUpdate` calls at once on documents of their own, acknowledged by the
  journal: what MongoDB takes on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import uvloop

from cache_manager.application.cache import Cache
from cache_manager.application.leases import AcquireLease, acquire_lease, release_lease
from cache_manager.application.ports import KnownVersion
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.bootstrap import Engine, assemble, web
from cache_manager.domain.entry import Asked, Entry
from cache_manager.settings import CacheManagerSettings, SiteSetting
from millrace.auth import IntrospectingAuthenticator, mint
from millrace.clock import SystemClock, new_id
from millrace.datasets.commit import Commit
from millrace.datasets.push import push
from millrace.datasets.stored import save_commit
from millrace.documents import connect
from millrace.runtime import Runtime, listen, spare_the_collector
from millrace.telemetry import configure_logs
from millrace.testing.objects import InMemoryObjectStore
from millrace_stack.ports import free_ports
from millrace_stack.servers import running
from millrace_stack.servers.mongo import MongoServer

SITE = "nfs-a"
PATIENCE = 60.0


class _Catalog:
    async def version(self, project: str, dataset: str, reference: str) -> KnownVersion:
        raise NotImplementedError


class _Silent:
    async def progress(self, _entry: Entry) -> None:
        return


def main() -> int:
    """Measure, print and return the exit code."""
    parser = argparse.ArgumentParser(description="p50 and p99 of lease grants")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 100])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=4, metavar=("URI", "FOLDER", "PORT", "TOKEN"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uri, folder, port, token = arguments.serve
        _serve(uri, Path(folder), int(port), token)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        server = MongoServer(Path(scratch) / "mongo", free_ports(1)[0], Path(scratch) / "mongo.log")
        with running(server):
            rows = uvloop.run(_measure(server.uri, Path(scratch), arguments))
    _report(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


async def _engine(uri: str, folder: Path) -> tuple[Engine, Entry]:
    """Return a cache manager's working part, and an entry of it that is ready."""
    store, source = InMemoryObjectStore(), folder / "source"
    source.mkdir(exist_ok=True)
    for index in range(20):
        (source / f"{index}.png").write_bytes(bytes([index]) * 5_000)
    pushed = await push(source, store, project="default")
    commit = Commit(
        root=pushed.tree_root,
        manifest=pushed.manifest_id,
        files=pushed.files,
        bytes=pushed.bytes,
        author="bench",
        time=SystemClock().now(),
    )
    await save_commit(store, "default", commit)
    settings = CacheManagerSettings(
        mongo_database=f"bench_{folder.name}",
        sites=(SiteSetting(site=SITE, path=str(folder / SITE), capacity_bytes=10**9),),
    )
    client = connect(uri, app_name="bench")
    engine = assemble(settings, client, store, catalog=_Catalog(), telemetry=_Silent(), clock=SystemClock())
    await engine.prepare()
    await engine.folders.refresh(engine.world.sites)

    async def ask(uow: Any) -> Any:
        wish = RequestCache(SITE, "default", "digits", 1, commit.id, "present", Asked(1, str(new_id())))
        return await request_cache(wish, uow=uow, clock=engine.world.clock)

    await engine.transactor(ask)
    for _ in range(600):
        await engine.attendance.step()
        await engine.attendance.idle()
        found = await engine.world.entries.get(f"{SITE}.default.{commit.id}")
        if found is not None and found.state == "READY":
            return engine, found
        await asyncio.sleep(0.05)
    raise TimeoutError("the entry did not become ready")


def _serve(uri: str, folder: Path, port: int, token: str) -> None:
    configure_logs("cache-manager")

    async def run() -> None:
        engine, entry = await _engine(uri, folder)
        answer = {
            "active": True,
            "principal": "service:trainer",
            "kind": "service",
            "project": "*",
            "roles": ["service-trainer"],
            "token": "t",
        }
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
        asked = IntrospectingAuthenticator(
            httpx.AsyncClient(transport=transport, base_url="http://catalog"), own_token=token, clock=SystemClock()
        )
        app = web(Runtime("cache-manager"), asked, Cache(engine.world))
        spare_the_collector()  # as `serve` does for a service
        (folder / "entry").write_text(entry.commit)
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, date_header=False)
        await uvicorn.Server(config).serve(sockets=[listen("127.0.0.1", port)])

    uvloop.run(run())  # as uvicorn does for a service


class _Client:
    """One open connection that speaks just enough HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader, self._writer, self._token = reader, writer, token

    async def call(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer {self._token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        length = next((int(line[15:]) for line in answer.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        content = await self._reader.readexactly(length)
        if status >= 300:
            raise RuntimeError(content.decode())
        return dict(json.loads(content)) if content else {}


async def _measure(uri: str, scratch: Path, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    port, token = free_ports(1)[0], mint("svc").text
    folder = scratch / "served"
    folder.mkdir()
    command = [sys.executable, __file__, "--serve", uri, str(folder), str(port), token]
    with (scratch / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - nothing else runs yet
    rows: dict[str, dict[str, float]] = {}
    try:
        commit = await _served(child, folder, port)
        for clients in arguments.clients:
            opened = [_Client(*await asyncio.open_connection("127.0.0.1", port), token) for _ in range(clients)]
            spent: list[float] = []
            once = partial(_http, opened, commit, child.pid, spent)
            rows[f"http, {clients}"] = await _rounds(arguments.rounds, once)
            rows[f"cpu, {clients}"] = {"p50": sum(spent[3:]) / (len(spent[3:]) * clients)}
    finally:
        child.terminate()
        child.wait()
    inside = scratch / "inside"
    inside.mkdir()
    engine, entry = await _engine(uri, inside)
    for clients in arguments.clients:
        rows[f"inside, {clients}"] = await _rounds(arguments.rounds, lambda: _inside(engine, entry, clients))  # noqa: B023
        rows[f"floor, {clients}"] = await _rounds(arguments.rounds, lambda: _floor(engine, clients))  # noqa: B023
    await engine.close()
    return rows


async def _served(child: subprocess.Popen[bytes], folder: Path, port: int) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and child.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return (folder / "entry").read_text()
    raise TimeoutError("the cache manager did not start")


async def _rounds(rounds: int, once: Callable[[], Awaitable[Sequence[float]]]) -> dict[str, float]:
    seconds: list[float] = []
    for number in range(rounds + 3):
        found = await once()
        if number >= 3:
            seconds += found
    seconds.sort()
    p99 = seconds[min(len(seconds) - 1, round(0.99 * len(seconds)))]
    return {"p50": statistics.median(seconds), "p99": p99, "max": seconds[-1]}


async def _timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = await work()
    return time.perf_counter() - begun, result


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _http(clients: Sequence[_Client], commit: str, pid: int, spent: list[float]) -> list[float]:
    bodies = [
        json.dumps({"run": str(new_id()), "site": SITE, "dataset": "digits", "commit": commit}).encode()
        for _ in clients
    ]
    pairs, before = zip(clients, bodies, strict=True), _cpu(pid)
    found = await asyncio.gather(
        *(_timed(lambda c=c, b=b: c.call("POST", "/v1/cache/leases", b)) for c, b in pairs)  # type: ignore[misc]
    )
    spent.append(_cpu(pid) - before)
    for client, (_, lease) in zip(clients, found, strict=True):
        await client.call("DELETE", f"/v1/cache/leases/{lease['lease']}")
    return [seconds for seconds, _ in found]


async def _inside(engine: Engine, entry: Entry, clients: int) -> list[float]:
    wishes = [AcquireLease(str(new_id()), SITE, "default", "digits", entry.commit) for _ in range(clients)]
    found = await asyncio.gather(
        *(_timed(lambda w=w: acquire_lease(w, world=engine.world)) for w in wishes)  # type: ignore[misc]
    )
    for _, lease in found:
        await release_lease(lease["lease"], "default", world=engine.world)
    return [seconds for seconds, _ in found]


async def _floor(engine: Engine, clients: int) -> list[float]:
    collection = engine.transactor.database["floor"]

    async def once(number: int) -> Any:
        return await collection.find_one_and_update({"_id": number}, {"$inc": {"n": 1}}, upsert=True)

    found = await asyncio.gather(*(_timed(lambda n=n: once(n)) for n in range(clients)))  # type: ignore[misc]
    return [seconds for seconds, _ in found]


def _report(rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{'clients at once':>16} {'p50':>8} {'p99':>8} {'max':>8}   milliseconds")
    for name, row in rows.items():
        print(f"{name:>16} " + " ".join(f"{value * 1_000:8.2f}" for value in row.values()))


if __name__ == "__main__":
    sys.exit(main())
