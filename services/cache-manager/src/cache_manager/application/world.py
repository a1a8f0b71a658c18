"""Everything that a worker works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cache_manager.application.lake_ports import Lake
from cache_manager.application.ports import Catalog, Entries, Prefetches, Quotas, Rules, Sites, Telemetry, Unit
from cache_manager.application.site_ports import SiteFolder
from cache_manager.domain.entry import Entry, Grant
from cache_manager.domain.plan import Patience
from cache_manager.errors import SiteUnavailable
from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.leases.beats import Beats
from millrace.leases.ports import Leases


@dataclass(frozen=True)
class Limits:
    """Times of the cache, in seconds, and the shares of a site's capacity between which pressure works.

    `scrub_rate` is in bytes a second.
    """

    patience: Patience = field(default_factory=Patience)
    lease: float = 90.0
    age_out: float = 86_400.0
    age_step: float = 60.0
    sweep: float = 600.0
    report: float = 0.5
    early_report: float = 0.2
    high_mark: float = 0.9
    low_mark: float = 0.8
    probe: float = 600.0
    scrub: float = 7 * 86_400.0
    sample: float = 3_600.0
    scrub_rate: float = 50e6


@dataclass(frozen=True)
class World:
    """Ports, limits and the short memory of one process."""

    transact: Transact[Unit]
    sites: Sites
    entries: Entries
    quotas: Quotas
    rules: Rules
    prefetches: Prefetches
    folders: Callable[[str], SiteFolder | None]
    lake: Lake
    catalog: Catalog
    telemetry: Telemetry
    leases: Leases
    holder: str
    clock: Clock
    limits: Limits
    grant: Callable[[str, str, bool], Awaitable[tuple[Entry, Grant] | None]]
    kick: Callable[[], None] = lambda: None
    rests: Beats = field(default_factory=Beats)
    grants: Beats = field(default_factory=Beats)

    async def folder(self, site: str, *, within: float = 0.0) -> SiteFolder:
        """Return the folder of a site that can be used now, as was found up to `within` seconds ago.

        Raises:
            SiteUnavailable: no such site is configured, or its directory is away.
        """
        folder = self.folders(site)
        if folder is None:
            raise SiteUnavailable(f"no cache site {site} is configured", hint=f"PUT /v1/cache/sites/{site} makes it")
        if (problem := await folder.problem(within=within)) is not None:
            raise SiteUnavailable(f"site {site}: {problem}")
        return folder
