"""Starts cache managers as processes of their own, quickly: a program that has imported everything, and forks.

Each line on standard input is a job as JSON; its process id is answered on standard output. The child works until it
is killed. It logs to the job's file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from cache_manager.application.housekeeping import Housekeeper
from cache_manager.application.ports import KnownVersion
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.application.sweep import Sweep
from cache_manager.bootstrap import assemble
from cache_manager.domain.entry import Asked, Entry
from cache_manager.settings import CacheManagerSettings
from millrace import failpoints
from millrace.clock import SystemClock, new_id
from millrace.documents import connect
from millrace.errors import Conflict, Unavailable
from millrace.objects.s3 import S3ObjectStore

PAUSE = 0.02


class _Nothing:
    async def version(self, project: str, dataset: str, reference: str) -> KnownVersion:
        raise NotImplementedError

    async def progress(self, entry: Entry) -> None:
        return


async def work(job: dict[str, Any]) -> None:
    """Ask for what the job names, then work until killed."""
    client, store = connect(job["mongo"], app_name="worker"), S3ObjectStore(**job["s3"])
    settings = CacheManagerSettings(**job["settings"])
    engine = assemble(settings, client, store, catalog=_Nothing(), telemetry=_Nothing(), clock=SystemClock())
    await engine.prepare()
    await engine.folders.refresh(engine.world.sites)
    if job.get("sweep"):
        await Sweep(engine.world).all()
    house = asyncio.create_task(Housekeeper(engine.world).run(None)) if job.get("housekeeping") else None  # type: ignore[arg-type]
    await asyncio.gather(*(_ask(engine, wish) for wish in job.get("wishes", ())))
    while house is None or not house.done():
        await engine.folders.refresh(engine.world.sites)
        await engine.attendance.step()
        await asyncio.sleep(PAUSE)


async def _ask(engine: Any, wish: dict[str, Any]) -> None:
    async def record(uow: Any) -> Any:
        asked = Asked(wish["version"], str(new_id()))
        return await request_cache(RequestCache(**wish, asked=asked), uow=uow, clock=engine.world.clock)

    for _ in range(200):
        try:
            await engine.transactor(record)
        except (Unavailable, Conflict):
            await asyncio.sleep(PAUSE)
        else:
            return


def main() -> None:
    """Fork a child for each line until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _child(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _child(job: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    failpoints._ARMED = failpoints.parse(job.get("failpoints", ""))
    try:
        asyncio.run(work(job))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
