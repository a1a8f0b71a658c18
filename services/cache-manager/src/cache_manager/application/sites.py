"""Sites: declared in the settings or over HTTP; a directory each, and no two in one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cache_manager.application.ports import Unit
from cache_manager.domain.charge import Charge, Site
from cache_manager.domain.links import Links, Measure, Rate
from cache_manager.errors import SiteInUse, SiteInvalid, SiteNotFound
from millrace.clock import Clock

MAX_PATH = 1_024
DEFAULT_INODES = 10_000_000
MAX_AGE = 10 * 366 * 86_400.0
FORBIDDEN = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"}
)


@dataclass(frozen=True)
class DefineSite:
    """A site as it should be. `path` is an absolute directory."""

    site: str
    path: str
    capacity_bytes: int
    capacity_inodes: int = DEFAULT_INODES
    origin: str = "api"
    age_out: float | None = None
    labels: Mapping[Measure, float] = field(default_factory=dict)


async def define_site(cmd: DefineSite, *, uow: Unit, clock: Clock) -> Site:
    """Create a site or change it. What is charged stays, so that a smaller capacity only stops new fills.

    Raises:
        SiteInvalid: the path cannot be a site's, or belongs to another one.
    """
    path = check_path(cmd.path)
    known = {site.id: site for site in await uow.sites.all()}
    for other in known.values():
        if other.id != cmd.site and _within(path, other.path):
            raise SiteInvalid(f"{path} and the path of site {other.id} lie in one another")
    before = known.get(cmd.site)
    if before is not None and before.path != path and before.charged:
        raise SiteInvalid(f"site {cmd.site} holds entries at {before.path}", hint="clear them before it moves")
    capacity = Charge(cmd.capacity_bytes, cmd.capacity_inodes)
    return await uow.sites.put(
        Site(
            id=cmd.site,
            path=path,
            capacity=capacity,
            origin=cmd.origin,
            age_out=cmd.age_out,
            links=Links(**{name: Rate(label=label) for name, label in cmd.labels.items()}),
            created_at=clock.now(),
        )
    )


async def drain_site(site: str, *, draining: bool, uow: Unit) -> Site:
    """Let nothing new come to a site, and let everything leave it that nobody holds; or end that.

    Raises:
        SiteNotFound: there is no such site.
    """
    changed = await uow.sites.change(site, draining=draining)
    if changed is None:
        raise SiteNotFound(f"no cache site {site}")
    return changed


async def remove_site(site: str, *, uow: Unit) -> Site:
    """Forget a site that holds nothing; its directory stays.

    Raises:
        SiteNotFound: there is no such site.
        SiteInUse: something is charged against it, or wanted there.
    """
    known = await uow.sites.get(site)
    if known is None:
        raise SiteNotFound(f"no cache site {site}")
    others = await uow.entries.forget(site)
    if others or not await uow.sites.remove(site):
        raise SiteInUse(f"site {site} holds {others} entries", hint="drain it, and wait until it is empty")
    return known


def check_path(path: str) -> str:
    """Return a normal absolute path.

    Raises:
        SiteInvalid: relative, the root, a system directory, or with `..` or control characters in it.
    """
    pure = PurePosixPath(path)
    if len(path) > MAX_PATH or not path.isprintable():
        raise SiteInvalid("a site's path is printable and not longer than 1,024 characters")
    if not pure.is_absolute() or ".." in pure.parts or path.startswith("//"):
        raise SiteInvalid("a site's path is absolute and has no `..`")
    if str(pure) in FORBIDDEN or any(str(pure).startswith(f"{top}/") for top in ("/proc", "/sys", "/dev")):
        raise SiteInvalid(f"{pure} cannot be a cache site", hint="name a directory of its own")
    return str(pure)


def _within(one: str, other: str) -> bool:
    first, second = PurePosixPath(one), PurePosixPath(other)
    return first.is_relative_to(second) or second.is_relative_to(first)
