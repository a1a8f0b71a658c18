"""A tree that lies near the compute already becomes a version's copy: only what differs comes from the lake."""

from __future__ import annotations

from typing import Any

from cache_manager.application import views
from cache_manager.application.ports import Unit
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.application.sites import check_path
from cache_manager.application.world import World
from cache_manager.domain.entry import Asked, Cause, Entry
from cache_manager.errors import SiteNotFound
from millrace.clock import new_id
from millrace.errors import Conflict, Invalid


async def adopt_tree(
    path: str, site: str, project: str, dataset: str, reference: str, *, cause: Cause, world: World
) -> dict[str, Any]:
    """Ask for a version at a site, and let its fill hard-link those files of a folder that are the version's.

    Every file is hashed first. The folder stays; whoever changes a file there afterwards changes the copy, which
    scrubbing then finds.

    Raises:
        SiteNotFound, NotFound: no such site, dataset or version.
        Invalid: the path is no folder that the cache manager can read, or lies in what a site manages.
        Conflict: the version is at the site already.
    """
    if await world.sites.get(site) is None:
        raise SiteNotFound(f"no cache site {site}")
    checked, folder = check_path(path), await world.folder(site)
    if not await folder.holds(checked):
        raise Invalid(f"{checked} is no folder to adopt", hint="name it as the cache manager's machine sees it")
    known = await world.catalog.version(project, dataset, reference)
    wish = RequestCache(
        site=site,
        project=project,
        dataset=known.dataset,
        version=known.version,
        commit=known.commit,
        desired="present",
        asked=Asked(id=str(new_id())),
        cause=cause,
    )

    async def work(uow: Unit) -> Entry:
        uow.audit(cause.principal or "", "cache.adopt", f"cache:{wish.key.id}", project, {"path": checked})
        entry = await request_cache(wish, uow=uow, clock=world.clock)
        if entry is None or not await uow.entries.adopt_from(wish.key.id, checked):
            raise Conflict(f"{dataset}@{known.version} is at site {site} already")
        return entry

    entry = await world.transact(work)
    world.kick()
    return views.entry(entry, None)
