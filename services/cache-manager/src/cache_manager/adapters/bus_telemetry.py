"""Progress on `tlm.progress.cache.<site>`: unstored, lost rather than waited for."""

from __future__ import annotations

import json

from cache_manager.domain.entry import Entry
from millrace.bus import Bus
from millrace.clock import Clock


class BusTelemetry:
    """`Telemetry` on the bus."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def progress(self, entry: Entry) -> None:
        """Tell whoever listens how far a fill is."""
        payload = {
            "entry": entry.id,
            "site": entry.site,
            "project": entry.project,
            "dataset": entry.dataset,
            "version": entry.version,
            "commit": entry.commit,
            "state": entry.state.value,
            "bytes": entry.bytes,
            "fetched_bytes": entry.fetched_bytes,
            "progress": round(entry.progress, 4),
            "at": self._clock.now().isoformat(),
        }
        await self._bus.publish_telemetry(f"tlm.progress.cache.{entry.site}", json.dumps(payload).encode())
