"""The folders of all sites that this process knows, kept in step with the database."""

from __future__ import annotations

from pathlib import Path

import structlog

from cache_manager.adapters.site_folder import DiskSite
from cache_manager.application.ports import Sites
from cache_manager.application.site_ports import SiteFolder
from millrace.errors import MillraceError

log = structlog.get_logger(__name__)


class SiteFolders:
    """Call `refresh` at the start of every pass; `get` then answers without waiting."""

    def __init__(self) -> None:
        self._folders: dict[str, DiskSite] = {}
        self.problems: dict[str, str] = {}

    def get(self, site: str) -> SiteFolder | None:
        """Return the folder of a site, or None if no such site is known here."""
        return self._folders.get(site)

    async def refresh(self, sites: Sites) -> None:
        """Open the folders of new and moved sites, prepare those that are not yet, and close those that are gone."""
        known = {site.id: site for site in await sites.all()}
        for gone in self._folders.keys() - known.keys():
            self._folders.pop(gone).close()
        for site in known.values():
            folder = self._folders.get(site.id)
            if folder is None or str(folder.root) != site.path:
                folder = self._folders[site.id] = DiskSite(site.id, Path(site.path))
            if not site.prepared:
                await self._prepare(folder, site.id)
                if site.id not in self.problems:
                    await sites.prepared(site)

    async def _prepare(self, folder: DiskSite, site: str) -> None:
        try:
            await folder.prepare()
        except (MillraceError, OSError) as error:
            self.problems[site] = str(error)
            log.warning("site cannot be prepared", site=site, reason=str(error))
        else:
            self.problems.pop(site, None)

    def close(self) -> None:
        """Let go of all folders."""
        for folder in self._folders.values():
            folder.close()
