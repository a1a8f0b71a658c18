"""In-memory adapters, for tests of handlers without servers. They pass the same tests as the real ones."""

from catalog.testing.memory import MemoryDocuments, MemoryTransactor, MemoryUnit

__all__ = ["MemoryDocuments", "MemoryTransactor", "MemoryUnit"]
