"""What the handlers need from the outside, as protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cache_manager.domain.charge import Charge, Quota, Site
from cache_manager.domain.entry import Asked, Cause, Desired, Entry, EvictReason, Grant, Pin
from cache_manager.domain.links import Measure
from cache_manager.domain.names import LeaseName
from cache_manager.domain.prefetch import Prefetch
from cache_manager.domain.retention import Rule
from cache_manager.domain.states import Move
from millrace.documents.ports import UnitOfWork
from millrace.leases.ports import Lease


class Sites(Protocol):
    """Sites, and the room that is promised at them."""

    async def get(self, site: str) -> Site | None:
        """Return a site, or None."""

    async def all(self) -> list[Site]:
        """Return every site by name."""

    async def put(self, site: Site) -> Site:
        """Create a site, or change its path, capacity and origin; what is charged stays. It is prepared anew."""

    async def change(self, site: str, **changes: Any) -> Site | None:
        """Set fields of a site; None if there is no such site."""

    async def sample(self, site: str, measure: Measure, value: float) -> None:
        """Let a sample count in a moving average: bytes a second, or seconds."""

    async def remove(self, site: str) -> bool:
        """Forget a site if nothing is charged against it; False if something is."""

    async def prepared(self, site: Site) -> None:
        """Record that the site's directory is marked as its own; from then on it is never marked again unasked."""

    async def charge(self, site: str, amount: Charge) -> bool:
        """Promise room, if there is that much; in one compare-and-set on the site's document."""

    async def release(self, site: str, amount: Charge) -> None:
        """Take a promise back."""

    async def correct(self, site: str, charged: Charge) -> None:
        """Set what is charged to what the entries sum up to."""


class Quotas(Protocol):
    """What each project holds at each site and at all of them, and may hold."""

    async def all(self, project: str | None = None) -> list[Quota]:
        """Return the quotas of a project, or all, by id."""

    async def limit(self, site: str, project: str, limit: Charge | None) -> Quota:
        """Set or lift a project's limit at a site, or at all (`*`)."""

    async def charge(self, site: str, project: str, amount: Charge) -> Quota | None:
        """Charge a project at a site and at all sites; return the quota that has no room for it, None if all have.

        What was charged before the refusal stays: the caller's transaction is to be given up then.
        """

    async def correct(self, charged: Mapping[tuple[str, str], Charge]) -> None:
        """Set what is charged by (site, project), and 0 everywhere else."""


class Rules(Protocol):
    """How long unused copies stay."""

    async def all(self) -> list[Rule]:
        """Return every rule by id."""

    async def put(self, rule: Rule) -> None:
        """Create or replace a rule."""

    async def remove(self, project: str, dataset: str | None) -> bool:
        """Remove a rule; False if there is none."""


class Prefetches(Protocol):
    """What is brought before anybody asks."""

    async def all(self, project: str | None = None) -> list[Prefetch]:
        """Return the rules of a project, or all, by id."""

    async def put(self, rule: Prefetch) -> None:
        """Create or replace a rule; one that is replaced begins its schedule anew."""

    async def remove(self, project: str, name: str) -> bool:
        """Remove a rule; False if there is none."""

    async def acted(self, rule: Prefetch, at: datetime | None, problem: str) -> bool:
        """Record when a rule acted, and why it could not; False if it did meanwhile, or is another one."""


class Entries(Protocol):
    """Entries. Each write is one compare-and-set on one document."""

    async def get(self, entry_id: str) -> Entry | None:
        """Return an entry, or None."""

    async def find(self, where: Mapping[str, Any], *, after: str = "", limit: int = 1_000) -> list[Entry]:
        """Return entries whose fields equal `where` (a tuple: any of it) by id, beyond `after`."""

    async def restless(self) -> list[Entry]:
        """Return the entries that may need work: neither ready as wished nor absent as wished."""

    async def add(self, entry: Entry) -> bool:
        """Store a new entry; False if its id is taken."""

    async def wish(self, entry_id: str, desired: Desired, asked: Asked, cause: Cause) -> bool:
        """Record what should be, unless a newer wish was recorded before. A wish for a FAILED entry queues it again."""

    async def adopt_from(self, entry_id: str, path: str) -> bool:
        """Let the next fill take files from a folder; False if the copy is there already."""

    async def claim(self, entry_id: str, token: int) -> Entry | None:
        """Record a worker's token, unless a higher one was seen; return the entry as it is then."""

    async def move(self, entry: Entry, move: Move, **changes: Any) -> Entry:
        """Change the state and further fields, if state and token are still those of `entry`; the revision rises.

        Raises:
            Fenced: the entry went on without this worker.
        """

    async def note(self, entry: Entry, **changes: Any) -> Entry:
        """Change fields in the same state; otherwise like `move`."""

    async def report(self, entry: Entry, *, fetched_bytes: int, progress: float) -> Entry | None:
        """Record progress without raising the revision; return the entry then, None if the worker was fenced."""

    async def shut(self, entry: Entry) -> Entry | None:
        """Let no run begin to read what is being filled; None if one has begun, or the entry went on."""

    async def evict(self, entry: Entry, *, reason: EvictReason, only_if_wished: Desired) -> Entry | None:
        """Mark for eviction, if it is ready, held by nobody, and wished as said; else None. Wished absent then."""

    async def grant(self, entry_id: str, run: str, early: bool = False) -> tuple[Entry, Grant] | None:
        """Give a run its lease, if the entry is ready and wished present; else None. Counts hits and bytes saved.

        `early`: one that is being filled will do, once it is readable.
        """

    async def grant_many(
        self,
        entry_id: str,
        runs: Sequence[str],
        early: bool = False,
    ) -> tuple[Entry, Mapping[str, Grant]] | None:
        """Give several different runs their leases in one update, in their order; otherwise like `grant`."""

    async def want(self, lease: LeaseName, reader: int, names: Sequence[str]) -> Entry | None:
        """Record which packs and chunks one of a run's readers needs next, and return the entry; None without lease."""

    async def renew(self, entry_id: str, run: str, token: int) -> bool:
        """Raise the beat of a lease; False if it is gone."""

    async def end(self, entry_id: str, run: str, grant: Grant) -> bool:
        """Remove a lease, if it has this token (and beat, unless that is -1); the idle time starts at 0."""

    async def scrubbed(self, entry: Entry, *, position: int, ended: datetime | None) -> None:
        """Record how far the scrub of an entry is, and that it is through, if it is ready as it was."""

    async def want_scrub(self, where: Mapping[str, Any]) -> int:
        """Ask for a scrub of the ready entries whose fields equal `where`; return how many there are."""

    async def age(self, seconds: float, decay: float) -> None:
        """Multiply the heat of what is ready by `decay`, and add to the idle time of what nobody leases."""

    async def pin(self, entry_id: str, name: str, pin: Pin) -> bool:
        """Set a pin on what is wished present, and not on its way out; else False."""

    async def unpin(self, entry_id: str, name: str) -> bool:
        """Remove a pin; False if there is none of this name. The idle time starts at 0."""

    async def forget(self, site: str) -> int:
        """Remove the entries of a site that have nothing there; return how many others there are."""

    async def charged(self) -> dict[tuple[str, str], Charge]:
        """Return the sum of the entries' charges by site and project."""


class Unit(UnitOfWork, Protocol):
    """One transaction."""

    sites: Sites
    entries: Entries
    quotas: Quotas
    rules: Rules
    prefetches: Prefetches

    async def guard(self, lease: Lease) -> None:
        """Let the transaction fail if the worker's lease is lost before it commits. Raises Fenced."""


@dataclass(frozen=True)
class KnownVersion:
    """A version by all its names."""

    dataset: str
    version: int
    commit: str


class Catalog(Protocol):
    """The system of record, asked over HTTP."""

    async def version(self, project: str, dataset: str, reference: str) -> KnownVersion:
        """Return what `reference` (number, commit or `latest`) means. Raises NotFound, Unavailable."""


class Telemetry(Protocol):
    """Progress that nobody stores."""

    async def progress(self, entry: Entry) -> None:
        """Tell whoever listens how far a fill is; loses rather than waits."""
