"""Everything that a worker works with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from ingest.application.ports import Catalog, Examiner, Jobs, Lake, LandingPlaces, Unit
from ingest.domain.places import Root, Scheme, Zone
from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.leases.beats import Beats
from millrace.leases.ports import Leases


@dataclass(frozen=True)
class Limits:
    """What one job may take in, and how patient it is (seconds)."""

    max_files: int = 1_000_000
    max_bytes: int = 1 << 40
    rebases: int = 10
    attempts: int = 8
    first_retry: float = 1.0
    last_retry: float = 60.0
    batches: int = 1_000


@dataclass(frozen=True)
class World:
    """Ports, rules and the short memory of one process."""

    transact: Transact[Unit]
    jobs: Jobs
    places: LandingPlaces
    examiner: Examiner
    lake: Lake
    catalog: Catalog
    leases: Leases
    holder: str
    clock: Clock
    buckets: Collection[str]
    scheme: Scheme = "s3"
    zones: Sequence[Zone] = ()
    roots: Sequence[Root] = ()
    limits: Limits = field(default_factory=Limits)
    kick: Callable[[], None] = lambda: None
    rests: Beats = field(default_factory=Beats)
