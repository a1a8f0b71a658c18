"""Prefetch rules at work. Each only utters the wish that somebody else would have uttered a little later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog

from cache_manager.application import metrics
from cache_manager.application.ports import KnownVersion, Unit
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.application.world import World
from cache_manager.domain.entry import Asked, Cause
from cache_manager.domain.prefetch import Prefetch, Trigger
from cache_manager.errors import RuleNotFound, SiteDraining, SiteNotFound
from millrace.clock import Clock, new_id
from millrace.errors import MillraceError

log = structlog.get_logger(__name__)


async def prefetch_run(wish: RequestCache, *, uow: Unit, clock: Clock) -> bool:
    """Bring the version of a run that was requested, if a rule says so; return whether it was wished for."""
    rules = await uow.prefetches.all(wish.project)
    if not any(rule.covers("run", wish.project, wish.dataset) for rule in rules):
        return False
    return await _wish("run", wish, uow=uow, clock=clock)


async def prefetch_commit(wish: RequestCache, rules: list[Prefetch], *, uow: Unit, clock: Clock) -> bool:
    """Bring a version that was committed to every site that the rules name; return whether it was wished for."""
    sites = {
        rule.site
        for rule in [*rules, *await uow.prefetches.all(wish.project)]
        if rule.site is not None and rule.covers("commit", wish.project, wish.dataset)
    }
    wished = [await _wish("commit", replace(wish, site=site), uow=uow, clock=clock) for site in sorted(sites)]
    return any(wished)


async def _wish(trigger: Trigger, wish: RequestCache, *, uow: Unit, clock: Clock) -> bool:
    """Utter a wish, unless it is uttered already, or the site takes nothing: nobody waits for it."""
    site = await uow.sites.get(wish.site)
    entry = await uow.entries.get(wish.key.id)
    if site is None or site.draining or (entry is not None and entry.desired == "present"):
        return False
    await request_cache(wish, uow=uow, clock=clock)
    uow.after_commit(lambda: metrics.PREFETCHES.labels(wish.site, trigger).inc())
    return True


async def run_schedules(world: World) -> None:
    """Let every rule act whose time has come. One that cannot says why; it is tried again if that may pass."""
    now = world.clock.now()
    for rule in await world.prefetches.all():
        if not rule.due(now) or rule.dataset is None or rule.site is None:
            continue
        try:
            await _check_site(rule.site, world)
            known = await world.catalog.version(rule.project, rule.dataset, "latest")
        except MillraceError as error:
            await _cannot(rule, error, world)
        else:
            await _act(rule, known, world)


async def _check_site(name: str, world: World) -> None:
    site = await world.sites.get(name)
    if site is None:
        raise SiteNotFound(f"no cache site {name}")
    if site.draining:
        raise SiteDraining(f"site {name} is being drained")


async def _cannot(rule: Prefetch, error: MillraceError, world: World) -> None:
    if error.transient and error.message == rule.problem:
        return
    log.warning("a prefetch rule cannot act", rule=rule.id, reason=error.message)
    at = rule.last if error.transient else world.clock.now()
    await world.prefetches.acted(rule, at, error.message)


async def _act(rule: Prefetch, known: KnownVersion, world: World) -> None:
    async def work(uow: Unit) -> None:
        if not await uow.prefetches.acted(rule, world.clock.now(), ""):
            return
        wish = RequestCache(
            site=rule.site or "",
            project=rule.project,
            dataset=known.dataset,
            version=known.version,
            commit=known.commit,
            desired="present",
            asked=Asked(id=str(new_id())),
            cause=Cause(principal=f"prefetch:{rule.name}"),
        )
        await _wish("schedule", wish, uow=uow, clock=world.clock)

    await world.transact(work)
    world.kick()


class PrefetchRules:
    """The rules as people edit them."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def list_rules(self, project: str) -> list[dict[str, Any]]:
        """Return a project's rules."""
        return [shown(rule) for rule in await self._world.prefetches.all(project)]

    async def put(self, rule: Prefetch, principal: str) -> dict[str, Any]:
        """Create or replace a rule.

        Raises:
            SiteNotFound: there is no such site.
        """
        made = replace(rule, created_at=self._world.clock.now())

        async def work(uow: Unit) -> None:
            uow.audit(principal, "cache.prefetch", f"prefetch:{rule.id}", rule.project, {"trigger": rule.trigger})
            if rule.site is not None and await uow.sites.get(rule.site) is None:
                raise SiteNotFound(f"no cache site {rule.site}")
            await uow.prefetches.put(made)

        await self._world.transact(work)
        return shown(made)

    async def remove(self, project: str, name: str, principal: str) -> None:
        """Remove a rule.

        Raises:
            RuleNotFound: there is none.
        """

        async def work(uow: Unit) -> None:
            uow.audit(principal, "cache.prefetch", f"prefetch:{project}.{name}", project, {"trigger": None})
            if not await uow.prefetches.remove(project, name):
                raise RuleNotFound(f"no prefetch rule {name}")

        await self._world.transact(work)


def shown(rule: Prefetch) -> dict[str, Any]:
    """Return a rule as people see it."""
    return {
        "name": rule.name,
        "project": rule.project,
        "trigger": rule.trigger,
        "dataset": rule.dataset,
        "site": rule.site,
        "every_seconds": rule.every,
        "at": rule.at,
        "last": rule.last.isoformat() if rule.last else None,
        "problem": rule.problem,
    }
