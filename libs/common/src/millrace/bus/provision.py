"""Keeps the broker as the topology says: `python -m millrace.bus.provision`.

The only user with rights on JetStream's management. It looks at everything each second and at once after a reconnect,
so that a broker whose store was wiped has its streams and consumers back within a second of its start. Each change
and each stream's creation time is a line of JSON. It ends, with code 1, only on a contradiction that no update
resolves (another storage or retention, a server that ignores a setting); `--once` ends after one good look.

Environment: MILLRACE_NATS_URL, MILLRACE_PROVISIONER_NATS_SEED_FILE, MILLRACE_NATS_REPLICAS (1), MILLRACE_LOG_LEVEL.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from millrace.bus.reconcile import Report, reconcile
from millrace.bus.replies import Replies
from millrace.bus.topology import CONSUMERS, PROVISIONER, STREAMS, Consumer, Stream, inbox_prefix
from millrace.cancellation import mend_wait_for
from millrace.clock import Clock, SystemClock
from millrace.errors import MillraceError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
RETRY_SECONDS = 0.3
CONTRADICTIONS_IN_A_ROW = 3
"""Looks that must find the same contradiction before it counts: a server that starts may still be thinking."""


class ProvisionerSettings(BaseSettings):
    """What the provisioner is told."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", extra="ignore", frozen=True)

    nats_url: str = "nats://127.0.0.1:4222"
    nats_replicas: int = Field(default=1, ge=1, le=5)
    provisioner_nats_seed_file: Path | None = None
    log_level: str = "info"


class Contradiction(MillraceError):
    """The broker has something that no update makes right."""

    code = "contradiction"


class Provisioner:
    """Looks, mends, and looks again."""

    def __init__(
        self,
        *,
        servers: str,
        seed_file: Path | None = None,
        replicas: int = 1,
        streams: Mapping[str, Stream] = STREAMS,
        consumers: Mapping[str, Consumer] = CONSUMERS,
        clock: Clock | None = None,
    ) -> None:
        self.epochs: dict[str, str] = {}
        self._servers = servers
        self._seed_file = seed_file
        self._replicas = replicas
        self._streams = list(streams.values())
        self._consumers = list(consumers.values())
        self._clock: Clock = clock or SystemClock()
        self._wanted = asyncio.Event()
        self._said: set[str] = set()
        self._replies: Replies | None = None

    async def run(self, *, once: bool = False) -> None:
        """Keep the broker so for ever, or until one look was good.

        Raises:
            Contradiction: something cannot be made so.
        """
        repeated: list[str] = []
        while True:
            connection = await self._connect()
            replies = self._replies = Replies(connection)
            await replies.open()
            try:
                while not connection.is_closed:
                    report = await self._try(replies)
                    if report is not None:
                        repeated = self._judge(report, repeated)
                        if once and not report.contradictions:
                            return
                    await self._pause(LOOK_SECONDS if report and not report.contradictions else RETRY_SECONDS)
            finally:
                with contextlib.suppress(NatsError):
                    await connection.close()

    async def _try(self, replies: Replies) -> Report | None:
        try:
            return await self.look(replies)
        except MillraceError as error:
            self._say(f"the broker is away: {error.message}")
            return None

    def _judge(self, report: Report, repeated: list[str]) -> list[str]:
        """Return the last looks' contradictions; raise once the same ones came often enough."""
        found = "; ".join(report.contradictions)
        if not found:
            return []
        repeated = [*repeated, found] if set(repeated) <= {found} else [found]
        if len(repeated) >= CONTRADICTIONS_IN_A_ROW:
            raise Contradiction(found)
        return repeated

    async def look(self, replies: Replies) -> Report:
        """Reconcile once and log what changed, also when the broker goes away in between."""
        report = Report()
        try:
            await reconcile(replies, self._streams, self._consumers, replicas=self._replicas, report=report)
        finally:
            self._tell(report)
        if not report.strangers:
            self._said.clear()
        else:
            self._say(f"consumers that nobody declared: {', '.join(report.strangers)}")
        return report

    def _tell(self, report: Report) -> None:
        for change in report.changes:
            log.info("provisioned", kind=change.kind, name=change.name, action=change.action, fields=change.fields)
        for stream, epoch in report.epochs.items():
            if self.epochs.get(stream) != epoch:
                log.info("stream epoch", stream=stream, created=epoch, before=self.epochs.get(stream))
        self.epochs.update(report.epochs)
        for contradiction in report.contradictions:
            log.error("contradiction", what=contradiction)

    async def _connect(self) -> Client:
        mend_wait_for()
        delay = RETRY_SECONDS
        while True:
            try:
                return await nats.connect(
                    self._servers,
                    name="millrace-provisioner",
                    nkeys_seed=None if self._seed_file is None else str(self._seed_file),
                    inbox_prefix=inbox_prefix(PROVISIONER),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RETRY_SECONDS,  # type: ignore[arg-type, unused-ignore]
                    error_cb=self._error,
                    reconnected_cb=self._reconnected,
                    disconnected_cb=self._disconnected,
                )
            except (NatsError, OSError) as error:
                self._say(f"no connection to NATS: {error}")
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def _error(self, error: Exception) -> None:
        self._say(f"NATS connection: {error or type(error).__name__}")

    async def _disconnected(self) -> None:
        if self._replies is not None:
            self._replies.broken()

    async def _reconnected(self) -> None:
        log.info("reconnected to NATS")
        self._wanted.set()

    async def _pause(self, seconds: float) -> None:
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    def _say(self, text: str) -> None:
        """Log a state once, until a good look forgets it."""
        if text not in self._said:
            self._said.add(text)
            log.warning(text)


async def _main(settings: ProvisionerSettings, *, once: bool) -> int:
    provisioner = Provisioner(
        servers=settings.nats_url,
        seed_file=settings.provisioner_nats_seed_file,
        replicas=settings.nats_replicas,
    )
    task = asyncio.ensure_future(provisioner.run(once=once))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("provisioner stopped")
    except Contradiction as error:
        log.critical("cannot provision", reason=error.message)
        return 1
    return 0


def main() -> int:
    """Run the provisioner; return the exit code."""
    settings = ProvisionerSettings()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            _add_service,
            structlog.processors.JSONRenderer(),
        ]
    )
    return asyncio.run(_main(settings, once="--once" in sys.argv[1:]))


def _add_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["service"] = PROVISIONER
    return event


if __name__ == "__main__":
    sys.exit(main())
