"""The life of a service's process: background work that is supervised, and a truthful answer to "are you ready?".

A service is an ASGI app whose lifespan runs a `Runtime`. HTTP comes up at once; whatever the service waits for is
said by `/readyz`. Background tasks that fail are started again with a growing delay, and their failure is a reason
for not being ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import structlog
import uvicorn
from starlette.types import ASGIApp

from millrace.cancellation import mend_wait_for
from millrace.clock import Clock, SystemClock
from millrace.errors import MillraceError
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[str | None]]
"""Returns None when fine, else the reason why not."""

CHECK_SECONDS = 3.0
MAX_RESTART_DELAY = 10.0


class Reconciler:
    """Calls `step` at the start, when kicked, and at least every `interval` seconds; never two at once.

    An event only shortens the wait: `kick()` is all that a handler does. A step that raises is logged and tried again
    after a growing delay, at most `interval`.
    """

    def __init__(self, name: str, step: Callable[[], Awaitable[None]], *, interval: float, clock: Clock) -> None:
        self.name = name
        self.failure: str | None = None
        self._step = step
        self._interval = interval
        self._clock = clock
        self._wanted = asyncio.Event()

    def kick(self) -> None:
        """Ask for a step soon. Kicks that arrive during a step lead to one more."""
        self._wanted.set()

    async def run(self) -> None:
        """Step for ever."""
        delay = 0.05
        while True:
            self._wanted.clear()
            if await self._attempt():
                delay, wait = 0.05, self._interval
            else:
                delay = min(delay * 2, self._interval)
                wait = delay * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wanted.wait()

    async def _attempt(self) -> bool:
        try:
            await self._step()
        except MillraceError as error:
            self.failure = f"{error.code}: {error.message}"
            log.warning("reconciler step failed", reconciler=self.name, reason=self.failure)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            log.exception("reconciler step broke", reconciler=self.name)
        else:
            self.failure = None
        return self.failure is None


@dataclass
class Kick:
    """Wakes a reconciler that is made later than those who want to wake it."""

    call: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        """Wake it, if it is there."""
        self.call()


@dataclass
class _Task:
    name: str
    start: Callable[[], Awaitable[None]]
    failure: str | None = None


class Runtime:
    """Starts, supervises and stops the background work of one process."""

    def __init__(self, service: str, *, clock: Clock | None = None) -> None:
        self.service = service
        self.clock: Clock = clock or SystemClock()
        self._tasks: list[_Task] = []
        self._checks: dict[str, Check] = {}
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def prepare(self, name: str, work: Callable[[], Awaitable[None]], *, waits: str) -> asyncio.Event:
        """Do `work` until it succeeds once; return the event for `after=`, set from then on.

        Until then `/readyz` says `waits` under `name`, and everything that comes after it waits.
        """
        done = asyncio.Event()

        async def prepared() -> None:
            if not done.is_set():
                await work()
                done.set()
            await asyncio.Event().wait()

        async def check() -> str | None:
            return None if done.is_set() else waits

        self.add_task(name, prepared)
        self.add_check(name, check)
        return done

    def add_task(self, name: str, start: Callable[[], Awaitable[None]], *, after: asyncio.Event | None = None) -> None:
        """Run `start()` for ever: should it return or raise, it is started again with a growing delay."""

        async def started() -> None:
            if after is not None:
                await after.wait()
            await start()

        self._tasks.append(_Task(name, started))

    def add_reconciler(self, reconciler: Reconciler, *, after: asyncio.Event | None = None) -> Reconciler:
        """Run a reconciler; returns it, so that handlers can kick it."""
        self.add_task(reconciler.name, reconciler.run, after=after)

        async def check() -> str | None:
            return reconciler.failure

        self.add_check(reconciler.name, check)
        return reconciler

    def add_check(self, name: str, check: Check) -> None:
        """Let `/readyz` ask `check`, which has 3 s to answer."""
        self._checks[name] = check

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call `close` after the tasks have stopped; last added, first closed."""
        self._closers.append(close)

    async def reasons(self) -> dict[str, str]:
        """Return why the service is not ready: check name → reason. Empty means ready."""
        found = dict(await asyncio.gather(*(self._ask(name, check) for name, check in self._checks.items())))
        reasons = {name: reason for name, reason in found.items() if reason is not None}
        reasons.update({task.name: task.failure for task in self._tasks if task.failure is not None})
        return reasons

    async def _ask(self, name: str, check: Check) -> tuple[str, str | None]:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return name, await check()
        except TimeoutError:
            return name, f"no answer within {CHECK_SECONDS:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a check throws is a reason
            return name, f"{type(error).__name__}: {error}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all tasks while the body runs; stop them and call the closers at the end."""
        mend_wait_for()
        tasks = [asyncio.create_task(self._supervise(task), name=task.name) for task in self._tasks]
        log.info("service started")
        try:
            yield
        finally:
            await cancel_and_wait(tasks)
            for close in reversed(self._closers):
                with contextlib.suppress(Exception):
                    await close()
            log.info("service stopped")

    async def _supervise(self, task: _Task) -> None:
        delay = 0.1
        while True:
            started = self.clock.monotonic()
            try:
                await task.start()
                task.failure = "ended"
            except MillraceError as error:
                task.failure = error.message
            except Exception as error:
                task.failure = f"{type(error).__name__}: {error}"
                log.exception("task broke", task=task.name)
            if self.clock.monotonic() - started > MAX_RESTART_DELAY:
                delay = 0.1
            log.warning("task restarts", task=task.name, reason=task.failure, delay=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_RESTART_DELAY)
            task.failure = None


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket made with IPPROTO_TCP, so that asyncio sets TCP_NODELAY on its connections.

    Raises:
        OSError: the address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(1_024)
    sock.set_inheritable(False)
    return sock


def serve(build: Callable[[], ASGIApp], *, host: str, port: int, max_grace: int = 10) -> None:
    """Serve the app that `build` returns until SIGTERM or SIGINT, then finish what is in flight within `max_grace` s.

    `build` is called inside the event loop.
    """

    def built() -> ASGIApp:
        app = build()
        spare_the_collector()
        return app

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    config = uvicorn.Config(
        built,
        factory=True,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=max_grace,
        h11_max_incomplete_event_size=64 * 1024,
        limit_concurrency=2_000,
    )
    sock = listen(host, port)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[sock])


def spare_the_collector() -> None:
    """Tell the garbage collector that what lives now, modules above all, lives to the end.

    Else every full collection walks over some hundred thousand objects that are never garbage, and whoever waits for
    an answer meanwhile waits 80 to 100 ms longer.
    """
    gc.collect()
    gc.freeze()


def _end(_number: int, _frame: object) -> None:
    """End with 0: uvicorn handles SIGTERM itself, and raises it once more when everything has stopped."""
    raise SystemExit(0)


__all__ = ["Check", "Kick", "Reconciler", "Runtime", "listen", "serve", "spare_the_collector"]
