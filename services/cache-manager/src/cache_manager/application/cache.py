"""The cache manager's commands and queries over HTTP, each in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from cache_manager.application import views
from cache_manager.application.explaining import best, ranked, why
from cache_manager.application.fsck import fsck
from cache_manager.application.pins import PinEntry, pin_entry, unpin_entry
from cache_manager.application.ports import Unit
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.application.sites import DefineSite, define_site, drain_site, remove_site
from cache_manager.application.world import World
from cache_manager.domain.charge import Site
from cache_manager.domain.entry import Asked, Cause, Entry
from cache_manager.domain.names import parse_entry
from cache_manager.domain.selection import WHOLE, Selection
from cache_manager.domain.states import PUBLISHED, State
from cache_manager.errors import EntryNotFound, Pinned, SiteDraining, SiteInUse, SiteNotFound
from millrace.clock import new_id
from millrace.errors import Conflict, MillraceError

PRESENT = tuple(state for state in State if state is not State.ABSENT)


class Cache:
    """What the routes call. Every look-up of an entry names its project. `fixed`: sites that the settings name."""

    def __init__(self, world: World, *, fixed: frozenset[str] = frozenset()) -> None:
        self.world = world
        self.fixed = fixed

    async def list_sites(self, project: str) -> list[dict[str, Any]]:
        """Return every site; room is that of all projects, savings are the project's own."""
        return [await self._site(site, project) for site in await self.world.sites.all()]

    async def define_site(self, cmd: DefineSite, principal: str) -> dict[str, Any]:
        """Create or change a site; its directory is prepared by the next pass."""

        async def work(uow: Unit) -> Site:
            site = await define_site(cmd, uow=uow, clock=self.world.clock)
            uow.audit(principal, "site.define", f"site:{site.id}", "default", {"path": site.path})
            return site

        site = await self.world.transact(work)
        self.world.kick()
        return await self._site(site, "default")

    async def drain_site(self, site: str, principal: str, *, draining: bool) -> dict[str, Any]:
        """Empty a site, or end that."""

        async def work(uow: Unit) -> Site:
            uow.audit(principal, "site.drain" if draining else "site.undrain", f"site:{site}", "default", {})
            return await drain_site(site, draining=draining, uow=uow)

        return await self._site(await self.world.transact(work), "default")

    async def remove_site(self, site: str, principal: str) -> None:
        """Forget an empty site."""
        if site in self.fixed:
            raise SiteInUse(f"the settings name site {site}", hint="take it out of MILLRACE_CACHE_MANAGER_SITES first")

        async def work(uow: Unit) -> Site:
            uow.audit(principal, "site.remove", f"site:{site}", "default", {})
            return await remove_site(site, uow=uow)

        await self.world.transact(work)
        folder = self.world.folders(site)
        if folder is not None:
            with contextlib.suppress(
                OSError, MillraceError
            ):  # a directory that is away stays marked; that harms nobody
                await folder.retire()

    async def _site(self, site: Site, project: str) -> dict[str, Any]:
        entries = await self.world.entries.find({"site": site.id}, limit=100_000)
        return views.site(site, entries, project, await self._problem(site.id))

    async def list_entries(self, project: str, where: Mapping[str, Any], *, after: str, limit: int) -> dict[str, Any]:
        """Return a page of a project's entries; absent ones only if asked for."""
        wanted = {"state": PRESENT, **where, "project": project}
        found = await self.world.entries.find(wanted, after=after, limit=limit)
        paths = {site.id: site for site in await self.world.sites.all()}
        items = [views.entry(entry, _path(entry, paths.get(entry.site))) for entry in found]
        return {"items": items, "next": found[-1].id if len(found) == limit else None}

    async def get_entry(self, entry_id: str, project: str) -> dict[str, Any]:
        """Return one entry of a project.

        Raises:
            EntryNotFound: there is none in this project.
        """
        return await self._shown(await self._entry(entry_id, project))

    async def why(self, entry_id: str, project: str) -> dict[str, Any]:
        """Return everything that decides over an entry."""
        return await why(await self._entry(entry_id, project), self.world)

    async def plan(
        self, project: str, dataset: str, reference: str, site: str | None, selection: Selection = WHOLE
    ) -> dict[str, Any]:
        """Return what it would take to have a copy of a version at each site, or at one, without doing it."""
        if site is not None and await self.world.sites.get(site) is None:
            raise _no_site(site)
        known = await self.world.catalog.version(project, dataset, reference)
        sites = await ranked(project, known.commit, self.world, site=site, selection=selection)
        return {"dataset": known.dataset, "version": known.version, "commit": known.commit, "sites": sites}

    async def pin(self, entry_id: str, project: str, name: str, reason: str, cause: Cause) -> dict[str, Any]:
        """Keep an entry until the pin is removed."""
        await self._entry(entry_id, project)
        cmd = PinEntry(entry_id, name, cause.principal or "", reason)

        async def work(uow: Unit) -> Entry:
            uow.audit(cmd.by, "cache.pin", f"cache:{entry_id}", project, {"pin": name})
            return await pin_entry(cmd, uow=uow, clock=self.world.clock)

        return await self._shown(await self.world.transact(work))

    async def unpin(self, entry_id: str, project: str, name: str, cause: Cause) -> dict[str, Any]:
        """Remove a pin."""
        await self._entry(entry_id, project)

        async def work(uow: Unit) -> Entry:
            uow.audit(cause.principal or "", "cache.unpin", f"cache:{entry_id}", project, {"pin": name})
            return await unpin_entry(entry_id, name, uow=uow)

        entry = await self.world.transact(work)
        self.world.kick()
        return await self._shown(entry)

    async def scrub(self, entry_id: str, project: str, cause: Cause) -> dict[str, Any]:
        """Ask for a scrub of an entry."""
        entry = await self._entry(entry_id, project)
        count = await self._scrub({"_id": entry.id}, f"cache:{entry.id}", project, cause.principal or "")
        if not count:
            raise Conflict(f"{entry.id} is {entry.state.value}; only what is READY can be read again")
        return await self.get_entry(entry_id, project)

    async def scrub_site(self, site: str, principal: str) -> dict[str, Any]:
        """Ask for a scrub of everything at a site."""
        if await self.world.sites.get(site) is None:
            raise _no_site(site)
        return {"site": site, "entries": await self._scrub({"site": site}, f"site:{site}", "default", principal)}

    async def _scrub(self, where: dict[str, Any], what: str, project: str, principal: str) -> int:
        async def work(uow: Unit) -> int:
            uow.audit(principal, "cache.scrub", what, project, {})
            return await uow.entries.want_scrub(where)

        return await self.world.transact(work)

    async def request_present(  # noqa: PLR0917 - what a request consists of
        self,
        site: str | None,
        project: str,
        dataset: str,
        reference: str,
        cause: Cause,
        selection: Selection = WHOLE,
    ) -> dict[str, Any]:
        """Ask for a version, or what is selected of it, to be cached: at a site, or at the best one.

        Raises:
            SiteNotFound, NotFound: no such site, dataset or version.
            SiteDraining: nothing new comes to it.
            NoSiteError: no site can take it.
        """
        if site is not None:
            await self._open(site)
        known = await self.world.catalog.version(project, dataset, reference)
        if site is None:
            site = await best(project, known.commit, selection, self.world)
        wish = RequestCache(
            site, project, known.dataset, known.version, known.commit, "present", _now(), cause, selection
        )
        return await self._shown(await self._wish(wish))

    async def request_absent(self, entry_id: str, project: str, cause: Cause) -> dict[str, Any]:
        """Ask for an entry to go.

        Raises:
            EntryNotFound: there is none in this project.
            Pinned: a pin keeps it.
        """
        entry = await self._entry(entry_id, project)
        if entry.pins:
            raise Pinned(
                f"{entry.id} is pinned: {', '.join(sorted(entry.pins))}", hint="`millrace cache unpin` it first"
            )
        wish = RequestCache(
            entry.site,
            project,
            entry.dataset,
            entry.version,
            entry.commit,
            "absent",
            _now(),
            cause,
            entry.selection,
        )
        return await self._shown(await self._wish(wish))

    async def fsck(self, *, deep: bool) -> dict[str, Any]:
        """Check the invariants."""
        return await fsck(self.world, deep=deep)

    async def _wish(self, cmd: RequestCache) -> Entry:
        async def work(uow: Unit) -> Entry | None:
            uow.audit(cmd.cause.principal or "", f"cache.{cmd.desired}", f"cache:{cmd.key.id}", cmd.project, {})
            return await request_cache(cmd, uow=uow, clock=self.world.clock)

        entry = await self.world.transact(work)
        self.world.kick()
        if entry is None:
            raise EntryNotFound("no such cache entry")
        return entry

    async def _entry(self, entry_id: str, project: str) -> Entry:
        key = parse_entry(entry_id)
        entry = await self.world.entries.get(entry_id) if key.project == project else None
        if entry is None:
            raise EntryNotFound("no such cache entry")
        return entry

    async def _shown(self, entry: Entry) -> dict[str, Any]:
        return views.entry(entry, _path(entry, await self.world.sites.get(entry.site)))

    async def _open(self, site: str) -> None:
        found = await self.world.sites.get(site)
        if found is None:
            raise _no_site(site)
        if found.draining:
            raise SiteDraining(f"site {site} is being drained", hint="name another site, or end the draining")

    async def sample(self, site: str, read: float, opening: float) -> None:
        """Let what a compute node measured count."""
        await self._open(site)
        await self.world.sites.sample(site, "read", read)
        await self.world.sites.sample(site, "open", opening)

    async def _problem(self, site: str) -> str | None:
        folder = self.world.folders(site)
        return "not opened by this process yet" if folder is None else await folder.problem()


def _now() -> Asked:
    return Asked(id=str(new_id()))


def _no_site(site: str) -> SiteNotFound:
    return SiteNotFound(f"no cache site {site}", hint=f"PUT /v1/cache/sites/{site} makes it")


def _path(entry: Entry, site: Site | None) -> str | None:
    return site.tree(entry.key) if site is not None and entry.state in PUBLISHED else None
