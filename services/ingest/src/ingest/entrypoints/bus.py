"""From `data.landed` to a job. The handler records and kicks; the reconciler does the work."""

from __future__ import annotations

from collections.abc import Callable

from ingest.application.ports import Unit
from ingest.application.receive import receive_landing
from millrace.bus import Subscription
from millrace.clock import Clock
from millrace.events import DataLanded
from millrace.events.envelope import AnyEvent


def subscriptions(clock: Clock, kick: Callable[[], None]) -> list[Subscription]:
    """Return what ingest wants to hear: from catalog, drift monitor, and outside systems straight on NATS alike."""

    async def on_data_landed(event: AnyEvent, uow: Unit) -> None:
        """Record the job."""
        await receive_landing(event, uow=uow, clock=clock)
        uow.after_commit(kick)

    return [Subscription("ingest-on-data-landed", DataLanded, on_data_landed)]
