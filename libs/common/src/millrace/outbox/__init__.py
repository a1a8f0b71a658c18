"""From the database to the bus: the relay publishes what was committed, the inbox remembers what was done."""

from millrace.outbox.inbox import Inbox
from millrace.outbox.relay import Relay
from millrace.publishing import Published, Publisher

__all__ = ["Inbox", "Published", "Publisher", "Relay"]
