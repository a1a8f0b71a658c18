"""Noticing agents that fell silent, and ending their grants: the only way in which somebody else's devices get free."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.leases.ports import Leases
from trainer.application.agent import reclaim
from trainer.application.ports import Queue, TrainerUnit

log = structlog.get_logger(__name__)


def node_lease(node: str) -> str:
    """Return the name of a node's lease."""
    return f"node/{node}"


class NodeWatch:
    """Takes over the lease of each silent node, which fences its agent; ends its grants; gives the lease back.

    Silence is judged by the lease store: no beat for a whole ttl on this process's own monotonic clock.
    """

    def __init__(
        self,
        *,
        own: str,
        holder: str,
        queue: Queue,
        leases: Leases,
        transact: Transact[TrainerUnit],
        clock: Clock,
        most: int,
        on_change: Callable[[], None],
    ) -> None:
        self._own = own
        self._holder = holder
        self._queue = queue
        self._leases = leases
        self._transact = transact
        self._clock = clock
        self._most = most
        self._on_change = on_change

    async def step(self) -> None:
        """Look at every other node that has an agent."""
        for node in await self._queue.nodes():
            if node.token and node.name != self._own:
                await self._look(node.name)

    async def _look(self, name: str) -> None:
        lease = await self._leases.acquire(node_lease(name), self._holder)
        if lease is None:
            return
        try:
            runs = await self._transact(lambda uow: reclaim(uow, name, lease, self._clock, self._most))
            log.warning("node is silent; its grants are ended", node=name, runs=runs)
        finally:
            await self._leases.release(lease)
        self._on_change()
