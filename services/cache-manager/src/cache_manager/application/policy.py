"""What admins decide of the cache: how much a project may hold, and how long what nobody uses may stay."""

from __future__ import annotations

from typing import Any

from cache_manager.application import views
from cache_manager.application.ports import Unit
from cache_manager.application.world import World
from cache_manager.domain.charge import EVERY_SITE, Charge, Quota
from cache_manager.domain.retention import Rule
from cache_manager.errors import RuleNotFound, SiteNotFound


class CachePolicy:
    """Quotas and age-out rules."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def quotas(self, project: str) -> list[dict[str, Any]]:
        """Return what a project holds and may hold, by site and at all (`*`)."""
        return [views.quota(quota) for quota in await self._world.quotas.all(project)]

    async def limit(self, site: str, project: str, limit: Charge | None, principal: str) -> dict[str, Any]:
        """Set or lift a project's limit. What it holds stays, so that a smaller one only stops new fills.

        Raises:
            SiteNotFound: there is no such site.
        """
        if site != EVERY_SITE and await self._world.sites.get(site) is None:
            raise SiteNotFound(f"no cache site {site}")

        async def work(uow: Unit) -> Quota:
            facts = {"limit_bytes": None if limit is None else limit.bytes}
            uow.audit(principal, "cache.quota", f"quota:{site}.{project}", project, facts)
            return await uow.quotas.limit(site, project, limit)

        quota = await self._world.transact(work)
        self._world.kick()
        return views.quota(quota)

    async def rules(self, project: str) -> dict[str, Any]:
        """Return a project's age-out rules, those of the sites, and the service's own."""
        rules = [views.rule(rule) for rule in await self._world.rules.all() if rule.project == project]
        sites = {site.id: site.age_out for site in await self._world.sites.all() if site.age_out is not None}
        return {"items": rules, "next": None, "sites": sites, "default_seconds": self._world.limits.age_out}

    async def set_rule(self, rule: Rule, principal: str) -> dict[str, Any]:
        """Decide for how long unused copies of a dataset, or of the whole project, stay."""

        async def work(uow: Unit) -> None:
            uow.audit(principal, "cache.age_out", f"rule:{rule.id}", rule.project, {"seconds": rule.seconds})
            await uow.rules.put(rule)

        await self._world.transact(work)
        return views.rule(rule)

    async def remove_rule(self, project: str, dataset: str | None, principal: str) -> None:
        """Let the next wider rule apply again.

        Raises:
            RuleNotFound: there is none.
        """

        async def work(uow: Unit) -> None:
            uow.audit(principal, "cache.age_out", f"rule:{Rule(project, dataset, 0.0).id}", project, {"seconds": None})
            if not await uow.rules.remove(project, dataset):
                raise RuleNotFound("no such age-out rule")

        await self._world.transact(work)
