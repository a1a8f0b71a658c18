"""Time as a dependency. No other module may read a clock (an AST rule in tools/ checks it)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from uuid_utils.compat import uuid7


class Clock(Protocol):
    """Where handlers get time from."""

    def now(self) -> datetime:
        """Return the wall time, timezone-aware UTC, for people to read; it decides nothing."""

    def monotonic(self) -> float:
        """Return seconds on a clock that only rises, for deadlines and lease observation."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall time, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return CLOCK_BOOTTIME seconds: unlike CLOCK_MONOTONIC it counts suspension, so a lease cannot outlive one."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await asyncio.sleep(seconds)


def new_id() -> UUID:
    """Return a fresh UUIDv7 (RFC 9562): unique, and sortable by the time of its making."""
    return uuid7()
