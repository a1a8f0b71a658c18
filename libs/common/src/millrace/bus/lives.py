"""Which life of its consumer a delivery belongs to.

An acknowledgement names a sequence. When the broker's store was wiped, the same sequence is another message, and an
acknowledgement of the old one would be taken for the new one: an effect would be lost in silence. So a delivery that
came before the connection broke is only settled after the consumer's creation time was found unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from millrace.errors import MillraceError

Created = Callable[[str, str], Awaitable[str]]
"""(stream, durable) → when the consumer was created, in the server's words."""


@dataclass(frozen=True)
class Life:
    """When a delivery came: in which generation of the connection, from which consumer."""

    generation: int
    created: str | None


class Lives:
    """Keeps count of breaks, and of what each durable's consumer was."""

    def __init__(self, created: Created) -> None:
        self._created = created
        self._generation = 0
        self._known: dict[str, str] = {}

    def broken(self) -> None:
        """Take note that the connection broke: whatever is in flight needs a second look."""
        self._generation += 1

    def seen(self, durable: str, created: str) -> bool:
        """Take note of a durable's consumer, and return whether it is news; another one than before is a break."""
        before, self._known[durable] = self._known.get(durable), created
        if before not in {None, created}:
            self._generation += 1
        return before != created

    def current(self, durable: str) -> Life:
        """Return the life that a message belongs to that arrives now."""
        return Life(self._generation, self._known.get(durable))

    async def lasts(self, life: Life, stream: str, durable: str) -> bool:
        """Return whether a delivery of that life may still be settled."""
        if life.generation == self._generation:
            return True
        try:
            return life.created is not None and await self._created(stream, durable) == life.created
        except MillraceError:
            return False
