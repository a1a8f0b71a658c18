"""The cache manager's commands and queries over HTTP, each in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cache_manager.application import views
from cache_manager.application.fsck import fsck
from cache_manager.application.ports import Unit
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.application.sites import DefineSite, define_site
from cache_manager.application.world import World
from cache_manager.domain.charge import Site
from cache_manager.domain.entry import Asked, Cause, Desired, Entry
from cache_manager.domain.names import EntryKey, parse_entry
from cache_manager.domain.states import PUBLISHED, State
from cache_manager.errors import EntryNotFound, SiteNotFound
from millrace.clock import new_id

PRESENT = tuple(state for state in State if state is not State.ABSENT)


class Cache:
    """What the routes call. Every look-up of an entry names its project."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def list_sites(self, project: str) -> list[dict[str, Any]]:
        """Return every site; room is that of all projects, savings are the project's own."""
        items = []
        for site in await self.world.sites.all():
            entries = await self.world.entries.find({"site": site.id}, limit=100_000)
            items.append(views.site(site, entries, project, await self._problem(site.id)))
        return items

    async def define_site(self, cmd: DefineSite, principal: str) -> dict[str, Any]:
        """Create or change a site; its directory is prepared by the next pass."""

        async def work(uow: Unit) -> Site:
            site = await define_site(cmd, uow=uow, clock=self.world.clock)
            uow.audit(principal, "site.define", f"site:{site.id}", "default", {"path": site.path})
            return site

        site = await self.world.transact(work)
        self.world.kick()
        return views.site(site, [], "default", None)

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

    async def request_present(
        self, site: str, project: str, dataset: str, reference: str, cause: Cause
    ) -> dict[str, Any]:
        """Ask for a version to be cached.

        Raises:
            SiteNotFound, NotFound: no such site, dataset or version.
        """
        if await self.world.sites.get(site) is None:
            raise SiteNotFound(f"no cache site {site}", hint=f"PUT /v1/cache/sites/{site} makes it")
        known = await self.world.catalog.version(project, dataset, reference)
        key = EntryKey(site, project, known.commit)
        entry = await self._wish(key, known.dataset, known.version, "present", cause)
        return await self._shown(entry)

    async def request_absent(self, entry_id: str, project: str, cause: Cause) -> dict[str, Any]:
        """Ask for an entry to go.

        Raises:
            EntryNotFound: there is none in this project.
        """
        entry = await self._entry(entry_id, project)
        return await self._shown(await self._wish(entry.key, entry.dataset, entry.version, "absent", cause))

    async def fsck(self, *, deep: bool) -> dict[str, Any]:
        """Check the invariants."""
        return await fsck(self.world, deep=deep)

    async def _wish(self, key: EntryKey, dataset: str, version: int, desired: Desired, cause: Cause) -> Entry:
        asked = Asked(id=str(new_id()))
        cmd = RequestCache(key.site, key.project, dataset, version, key.commit, desired, asked, cause)

        async def work(uow: Unit) -> Entry | None:
            uow.audit(cause.principal or "", f"cache.{desired}", f"cache:{key.id}", key.project, {})
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

    async def _problem(self, site: str) -> str | None:
        folder = self.world.folders(site)
        return "not opened by this process yet" if folder is None else await folder.problem()


def _path(entry: Entry, site: Site | None) -> str | None:
    return site.tree(entry.key) if site is not None and entry.state in PUBLISHED else None
