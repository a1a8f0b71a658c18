"""What every service begins with: bus and outbox, and its `main`, with a clear word where something is wrong."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError
from starlette.types import ASGIApp

from millrace.bus import Bus
from millrace.errors import MillraceError
from millrace.outbox import Relay
from millrace.runtime import Runtime, serve
from millrace.settings import ServiceSettings, SharedSettings, explain
from millrace.telemetry import configure_logs, configure_traces

S = TypeVar("S", bound=ServiceSettings)

CANNOT_START = 2


def run(name: str, settings_class: Callable[[], S], build: Callable[[S, SharedSettings], ASGIApp]) -> int:
    """Serve what `build(settings, shared)` returns until the process is told to stop; return its exit code.

    `build` is called inside the event loop, because clients of gRPC and others belong to the loop they are made in.
    """
    try:
        settings, shared = settings_class(), SharedSettings()
        configure_logs(name, shared.log_level)
        configure_traces(name, shared.otlp_endpoint)
        serve(lambda: build(settings, shared), host=settings.host, port=settings.port)
    except ValidationError as error:
        return _cannot_start(name, explain(error))
    except MillraceError as error:
        return _cannot_start(name, f"{error.message}{f' ({error.hint})' if error.hint else ''}")
    except OSError as error:
        return _cannot_start(name, f"cannot listen on {settings.host}:{settings.port}: {error.strerror}")
    return 0


def relay_events(runtime: Runtime, bus: Bus, relay: Relay, *, after: asyncio.Event) -> None:
    """Let `runtime` start the bus once the database is prepared, and publish what the outbox holds."""

    async def connected() -> None:
        await bus.start()
        await relay.run()

    runtime.add_task("bus", connected, after=after)
    runtime.add_check("bus", bus.check)
    runtime.add_check("outbox", relay.check)
    runtime.on_close(bus.stop)


def _cannot_start(name: str, reason: str) -> int:
    sys.stderr.write(f"{name} cannot start: {reason}\n")
    return CANNOT_START
