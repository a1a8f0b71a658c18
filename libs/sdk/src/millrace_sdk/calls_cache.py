"""The routes of the cache as methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace_sdk.call import Call, Caller, R, path_of


class CacheCalls(Caller[R]):
    """Sites, entries, pins, rules."""

    def sites(self) -> R:
        """List sites with their room."""
        return self.do(Call("GET", path_of("cache", "sites")))

    def set_site(self, site: str, path: str, capacity_bytes: int, **more: Any) -> R:
        """Register a site: a folder near the compute, and how much of it is ours.

        `more`: `capacity_inodes`, `age_out_seconds`.
        """
        body = {"path": path, "capacity_bytes": capacity_bytes, **more}
        return self.do(Call("PUT", path_of("cache", "sites", site), body=body))

    def drain_site(self, site: str, *, draining: bool = True) -> R:
        """Let nothing new come to a site and everything leave it that nobody holds; or end that."""
        return self.do(Call("PUT" if draining else "DELETE", path_of("cache", "sites", site, "drain")))

    def remove_site(self, site: str) -> R:
        """Forget a site that holds nothing; its directory stays."""
        return self.do(Call("DELETE", path_of("cache", "sites", site)))

    def quotas(self) -> R:
        """List what the project holds and may hold, by site and at all (`*`)."""
        return self.do(Call("GET", path_of("cache", "quotas")))

    def set_quota(self, site: str | None, bytes_: int | None, inodes: int | None) -> R:
        """Limit what the project may hold at a site, or at all sites together; without amounts, lift the limit."""
        body = {"site": site, "bytes": bytes_, "inodes": inodes}
        return self.do(Call("PUT", path_of("cache", "quotas"), body=body))

    def age_out(self) -> R:
        """List for how long unused copies stay."""
        return self.do(Call("GET", path_of("cache", "age-out")))

    def set_age_out(self, seconds: float, dataset: str | None = None) -> R:
        """Decide for how long unused copies of a dataset, or of the whole project, stay."""
        return self.do(Call("PUT", path_of("cache", "age-out"), body={"dataset": dataset, "seconds": seconds}))

    def unset_age_out(self, dataset: str | None = None) -> R:
        """Let the next wider rule apply again."""
        params = {} if dataset is None else {"dataset": dataset}
        return self.do(Call("DELETE", path_of("cache", "age-out"), params))

    def cache_entries(self, **params: Any) -> R:
        """List what is cached where."""
        return self.do(Call("GET", path_of("cache", "entries"), params))

    def probe_site(self, site: str, read_bytes_per_second: float, open_seconds: float) -> R:
        """Send what a compute node measured at its mount of a site."""
        body = {"read_bytes_per_second": read_bytes_per_second, "open_seconds": open_seconds}
        return self.do(Call("POST", path_of("cache", "sites", site, "probes"), body=body))

    def cache(
        self, site: str | None, dataset: str, version: int, *, mode: str = "tree", paths: Sequence[str] = ()
    ) -> R:
        """Ask for a version, or the paths of it that match, at a site; None: where a run would have read it soonest.

        `mode`: `tree` for files, `packs` for packs, which `Dataset.open` reads.
        """
        body: dict[str, Any] = {"site": site, "dataset": dataset, "version": version}
        if mode != "tree" or paths:
            body |= {"mode": mode, "paths": list(paths)}
        return self.do(Call("POST", path_of("cache", "entries"), body=body))

    def adopt(self, path: str, site: str, dataset: str, version: int) -> R:
        """Make a folder near the compute a version's copy; only what differs comes from the lake."""
        body = {"path": path, "site": site, "dataset": dataset, "version": version}
        return self.do(Call("POST", path_of("cache", "adoptions"), body=body))

    def lease(
        self,
        run: str,
        site: str,
        dataset: str,
        commit: str,
        *,
        mode: str = "tree",
        paths: Sequence[str] = (),
        early: bool = False,
    ) -> R:
        """Take a run's lease on a copy, or replace it; `early`: packs may be read while others are still fetched.

        It ends after a minute and a half unless it is renewed. Its answer is what `Dataset.open_lease` takes.
        """
        body: dict[str, Any] = {"run": run, "site": site, "dataset": dataset, "commit": commit}
        if mode != "tree" or paths:
            body |= {"mode": mode, "paths": list(paths)}
        if early:
            body["early"] = True
        return self.do(Call("POST", path_of("cache", "leases"), body=body))

    def look_at_lease(self, lease: str) -> R:
        """Return where a lease's copy lies now, and how far it is."""
        return self.do(Call("GET", path_of("cache", "leases", lease)))

    def renew_lease(self, lease: str) -> R:
        """Renew a lease."""
        return self.do(Call("PUT", path_of("cache", "leases", lease)))

    def release_lease(self, lease: str) -> R:
        """End a lease."""
        return self.do(Call("DELETE", path_of("cache", "leases", lease)))

    def want_packs(self, lease: str, names: Sequence[str], *, reader: int = 0, waited_seconds: float = 0.0) -> R:
        """Say which packs a reader of an early lease needs next (16 at most); return as `look_at_lease` does."""
        body = {"names": list(names), "reader": reader, "waited_seconds": waited_seconds}
        return self.do(Call("POST", path_of("cache", "leases", lease, "wanted"), body=body))

    def clear(self, entry: str) -> R:
        """Clear a version from a site."""
        return self.do(Call("DELETE", path_of("cache", "entries", entry)))

    def prefetches(self) -> R:
        """List the project's prefetch rules."""
        return self.do(Call("GET", path_of("cache", "prefetch")))

    def set_prefetch(self, rule: str, body: Mapping[str, Any]) -> R:
        """Create or replace a prefetch rule."""
        return self.do(Call("PUT", path_of("cache", "prefetch", rule), body=dict(body)))

    def remove_prefetch(self, rule: str) -> R:
        """Remove a prefetch rule."""
        return self.do(Call("DELETE", path_of("cache", "prefetch", rule)))

    def cache_plan(
        self,
        dataset: str,
        version: str | int = "latest",
        site: str | None = None,
        *,
        mode: str = "tree",
        paths: Sequence[str] = (),
    ) -> R:
        """Return what it would take to cache a version at each site, or at one, without doing it."""
        params: dict[str, Any] = {"dataset": dataset, "version": version, "site": site}
        if mode != "tree" or paths:
            params |= {"mode": mode, "path": list(paths)}
        return self.do(Call("GET", path_of("cache", "plan"), params))

    def cache_entry(self, entry: str) -> R:
        """Return one copy."""
        return self.do(Call("GET", path_of("cache", "entries", entry)))

    def cache_why(self, entry: str) -> R:
        """Return why an entry is as it is, who holds it, and when it would go."""
        return self.do(Call("GET", path_of("cache", "entries", entry, "why")))

    def scrub(self, entry: str) -> R:
        """Ask for every byte of a copy to be read again."""
        return self.do(Call("POST", path_of("cache", "entries", entry, "scrub"), body={}))

    def scrub_site(self, site: str) -> R:
        """Ask for every byte at a site to be read again."""
        return self.do(Call("POST", path_of("cache", "sites", site, "scrub"), body={}))

    def pin(self, entry: str, pin: str = "manual", reason: str = "") -> R:
        """Keep an entry whatever happens, until the pin of this name is removed."""
        return self.do(Call("PUT", path_of("cache", "entries", entry, "pins", pin), body={"reason": reason}))

    def unpin(self, entry: str, pin: str = "manual") -> R:
        """Remove a pin."""
        return self.do(Call("DELETE", path_of("cache", "entries", entry, "pins", pin)))
