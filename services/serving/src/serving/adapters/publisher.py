"""Captured batches onto the bus's INFERENCE stream."""

from __future__ import annotations

from millrace.bus import Bus


class BusBatchPublisher:
    """Publishes through the service's bus, many batches in flight at once, each confirmed by the stream."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publish one batch and wait until the broker has stored it."""
        headers = {"Nats-Msg-Id": message_id, "Content-Type": "application/vnd.apache.arrow.stream"}
        await self._bus.publish_telemetry(subject, payload, headers=headers, stored=True)
