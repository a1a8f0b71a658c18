"""The bus: FastStream on nats-py, and nobody else in the house touches either.

topology     what exists on the broker, as data
provision    makes it so (`python -m millrace.bus.provision`)
subscription what a service wants to hear (free of drivers)
bus          the service's connection: consumers, publisher, telemetry, health
settle       acknowledges twice, retries later, dead-letters

Handlers see `Subscription` and events only.
"""

from millrace.bus.bus import Bus
from millrace.bus.messages import RawMessage
from millrace.bus.publisher import NatsPublisher
from millrace.bus.subscription import ALL, DEAD_LETTERS, DeadLetter, Subscription

__all__ = ["ALL", "DEAD_LETTERS", "Bus", "DeadLetter", "NatsPublisher", "RawMessage", "Subscription"]
