"""Reconcilers and supervision."""

from __future__ import annotations

import asyncio
import sys

import httpx

from millrace.clock import SystemClock
from millrace.errors import Unavailable
from millrace.runtime import Reconciler, Runtime
from millrace_stack.ports import free_ports


async def until(condition: object, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def test_a_reconciler_steps_at_once_and_again_for_every_kick_without_overlap() -> None:
    running, most, steps = 0, 0, 0

    async def step() -> None:
        nonlocal running, most, steps
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        steps += 1

    reconciler = Reconciler("r", step, interval=60, clock=SystemClock())
    task = asyncio.create_task(reconciler.run())
    await until(lambda: steps == 1)
    for _ in range(5):
        reconciler.kick()
    await until(lambda: steps == 2)
    task.cancel()
    assert most == 1


async def test_a_failing_step_is_tried_again_and_its_reason_told() -> None:
    tries = 0

    async def step() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("not yet")

    runtime = Runtime("r")
    reconciler = runtime.add_reconciler(Reconciler("fill", step, interval=60, clock=SystemClock()))
    async with runtime.running():
        await until(lambda: tries == 1)
        assert await runtime.reasons() == {"fill": "unavailable: not yet"}
        await until(lambda: tries == 3 and reconciler.failure is None)
        assert await runtime.reasons() == {}


async def test_what_comes_after_a_preparation_waits_until_it_has_succeeded_once() -> None:
    tries, starts = 0, 0

    async def prepare() -> None:
        nonlocal tries
        tries += 1
        if tries < 2:
            raise Unavailable("no database yet")

    async def work() -> None:
        nonlocal starts
        starts += 1
        assert tries == 2
        raise RuntimeError("boom")

    runtime = Runtime("r")
    prepared = runtime.prepare("database", prepare, waits="waits for MongoDB")
    runtime.add_task("worker", work, after=prepared)
    async with runtime.running():
        await until(lambda: tries == 1)
        assert "database" in await runtime.reasons()
        await until(lambda: starts == 2)
        assert "database" not in await runtime.reasons()
    assert tries == 2


async def test_a_broken_task_restarts_and_a_hanging_check_is_a_reason() -> None:
    runs = 0

    async def breaks() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("boom")
        await asyncio.Event().wait()

    async def hangs() -> str | None:
        await asyncio.Event().wait()
        return None

    runtime = Runtime("r")
    runtime.add_task("worker", breaks)
    async with runtime.running():
        await until(lambda: runs == 2)
    runtime.add_check("mongo", hangs)
    assert "no answer" in (await runtime.reasons())["mongo"]


SERVED = """
import gc, sys
from millrace.runtime import serve

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = str(gc.get_freeze_count()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

serve(lambda: app, host="127.0.0.1", port=int(sys.argv[1]))
"""


async def test_a_served_process_spares_the_collector_what_its_start_made() -> None:
    port = free_ports(1)[0]
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVED, str(port))
    try:
        frozen = 0
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            while not frozen:
                try:
                    frozen = int((await client.get(f"http://127.0.0.1:{port}/")).text)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        assert frozen > 10_000
    finally:
        child.terminate()
        assert await child.wait() == 0
