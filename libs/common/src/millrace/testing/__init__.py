"""What tests share: in-memory adapters, and the contract suites that hold them to the real ones.

Never imported by the product.
"""

from millrace.testing.bus import InMemoryBus
from millrace.testing.clock import ManualClock
from millrace.testing.leases import InMemoryLeaseStore
from millrace.testing.objects import InMemoryObjectStore
from millrace.testing.publisher import InMemoryPublisher
from millrace.testing.transactor import InMemoryTransactor, InMemoryUnitOfWork, MemoryDatabase

__all__ = [
    "InMemoryBus",
    "InMemoryLeaseStore",
    "InMemoryObjectStore",
    "InMemoryPublisher",
    "InMemoryTransactor",
    "InMemoryUnitOfWork",
    "ManualClock",
    "MemoryDatabase",
]
