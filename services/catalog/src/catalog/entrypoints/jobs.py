"""What the catalog does without being asked: reconcilers, each a step that may be repeated for ever."""

from __future__ import annotations

from datetime import timedelta

import structlog

from catalog.application.catalog import Catalog
from catalog.application.old_landings import OldLandings, Shore
from catalog.application.policies.execute import execute_policies
from catalog.application.projections.repair import repair
from catalog.application.sequencer import BATCH, chain_audit, number_events
from catalog.application.sweeping import Collector
from catalog.application.tokens import note_uses
from millrace.errors import Unavailable
from millrace.runtime import Reconciler

log = structlog.get_logger(__name__)

POLICIES_SECONDS = 2.0
NUMBERS_SECONDS = 1.0
CHAIN_SECONDS = 2.0
REPAIR_SECONDS = 30.0
USES_SECONDS = 30.0
GARBAGE_SECONDS = 10.0
LANDINGS_SECONDS = 600.0
MAX_DUE = 100


def policies(catalog: Catalog) -> Reconciler:
    """Run policies for logged events that nobody has dealt with, whether or not the bus brought them."""

    async def step() -> None:
        for row in await catalog.documents.log.find({"policies": "due"}, limit=MAX_DUE):
            await catalog.in_unit(execute_policies, row, clock=catalog.clock)

    return Reconciler("policies", step, interval=POLICIES_SECONDS, clock=catalog.clock)


def numbers(catalog: Catalog) -> Reconciler:
    """Give new events their positions, and wake the streams."""

    async def step() -> None:
        while True:
            numbered: int = await catalog.transact(number_events)
            if numbered:
                catalog.numbered.ring()
            if numbered < BATCH:
                return

    return Reconciler("event-numbers", step, interval=NUMBERS_SECONDS, clock=catalog.clock)


def chain(catalog: Catalog) -> Reconciler:
    """Link new audit rows to the chain."""

    async def step() -> None:
        while await catalog.transact(chain_audit) == BATCH:
            pass

    return Reconciler("audit-chain", step, interval=CHAIN_SECONDS, clock=catalog.clock)


def token_uses(catalog: Catalog, used: set[str]) -> Reconciler:
    """Write down when tokens were last used, now and then rather than at each request."""

    async def step() -> None:
        seen = set(used)
        if seen:
            await catalog.in_unit(note_uses, seen, clock=catalog.clock)
            used.difference_update(seen)

    return Reconciler("token-uses", step, interval=USES_SECONDS, clock=catalog.clock)


def projections(catalog: Catalog) -> Reconciler:
    """Bring projections to what the log says, and report what the log lacks."""

    async def step() -> None:
        gaps = await repair(catalog.documents, catalog.transact, catalog.clock)
        if gaps:
            log.warning("events are missing from the log", aggregates=gaps[:20], count=len(gaps))

    return Reconciler("projections", step, interval=REPAIR_SECONDS, clock=catalog.clock)


def garbage(catalog: Catalog, *, settle: float) -> Reconciler:
    """Carry out the garbage collections that were asked for; `settle` in seconds."""
    collector = Collector(catalog.documents, catalog.transact, catalog.lake, catalog.clock, settle=settle)
    return Reconciler("garbage", collector.step, interval=GARBAGE_SECONDS, clock=catalog.clock)


def landings(catalog: Catalog, shore: Shore, *, age: timedelta) -> Reconciler:
    """Take landings over HTTP away that nobody closed, or whose ingest has ended, `age` after the last sign of them."""
    old = OldLandings(catalog.documents, shore, catalog.clock, age=age)

    async def step() -> None:
        try:
            await old.step()
        except Unavailable as error:  # a round that comes later harms nobody, and is no reason for not being ready
            log.info("landings are looked at later", reason=error.message)

    return Reconciler("landings", step, interval=LANDINGS_SECONDS, clock=catalog.clock)
