"""What runs beside HTTP and the bus: the reconcilers and the one process that counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from drift_monitor.application.answering import Landing
from drift_monitor.application.asking import Asking
from drift_monitor.application.counting import Counting
from drift_monitor.application.meters import QUEUE
from drift_monitor.application.ports import Repositories, Tap
from drift_monitor.application.watching import WatchBook
from drift_monitor.domain.labels import OPEN
from millrace.clock import Clock
from millrace.leases import Leadership, Lease
from millrace.runtime import Reconciler

WATCH_SECONDS = 30.0
LABEL_SECONDS = 5.0
METER_SECONDS = 5.0


def watches(book: WatchBook, clock: Clock) -> Reconciler:
    """Watch what serves, heard or not."""
    return Reconciler("watches", book.reconcile, interval=WATCH_SECONDS, clock=clock)


def asking(asker: Asking, clock: Clock) -> Reconciler:
    """Make label queues of incidents that gathered enough."""
    return Reconciler("label requests", asker.step, interval=LABEL_SECONDS, clock=clock)


def landing(lander: Landing, clock: Clock) -> Reconciler:
    """Let answered queues land."""
    return Reconciler("landing", lander.step, interval=LABEL_SECONDS, clock=clock)


def metering(kept: Repositories, clock: Clock) -> Reconciler:
    """Keep the gauges of the label queues."""

    async def step() -> None:
        waiting = await kept.queues.in_state(OPEN)
        QUEUE.labels("answered").set(sum(queue.answered for queue in waiting))
        QUEUE.labels("waiting").set(sum(len(queue.items) - queue.answered for queue in waiting))

    return Reconciler("meters", step, interval=METER_SECONDS, clock=clock)


def counting(counter: Counting, leadership: Leadership, tap: Tap) -> Callable[[], Awaitable[None]]:
    """Return the task that counts while this process leads."""

    async def work(lease: Lease) -> None:
        await counter.lead(lease, tap)

    async def run() -> None:
        await leadership.run(work)

    return run
