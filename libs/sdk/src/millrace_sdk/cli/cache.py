"""`millrace cache`: versions at sites near the GPUs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from millrace.clock import SystemClock
from millrace.errors import Conflict, DeadlineExceeded, NotFound
from millrace_sdk.cli.cache_rules import age_out, prefetch, quota
from millrace_sdk.cli.cache_sites import app as sites
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Timeout, Wait, catalog, split_ref
from millrace_sdk.cli.output import print_facts, print_json, print_table, report, size

app = typer.Typer(
    help="Versions at sites near the GPUs.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
Ref = Annotated[str, typer.Argument(metavar="DATASET[@VERSION]", help="a dataset, at its head or at a version")]
Site = Annotated[str, typer.Option("--site", "-s", help="the site")]
Packs = Annotated[bool, typer.Option("--packs", help="as packs, which `Dataset.open` reads, instead of files")]
Paths = Annotated[
    list[str] | None, typer.Option("--path", metavar="PATTERN", help="only what matches, as in .gitignore; repeat")
]
PinName = Annotated[str, typer.Option("--name", "-n", help="which pin; each person or paper may have its own")]
OPTION_COLUMNS = ("site", "verdict", "to fetch", "requests", "seconds", "victims", "reason")

app.add_typer(sites, name="sites")
app.add_typer(quota, name="quota")
app.add_typer(age_out, name="age-out")
app.add_typer(prefetch, name="prefetch")


@app.command("ls")
def ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List what is cached where."""
    found = catalog(project).cache_entries()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            it["site"],
            f"{it['dataset']}@{it['version']}",
            _part(it),
            it["state"].lower(),
            f"{it['progress']:.0%}",
            size(it["bytes"]),
            len(it["leases"]),
            len(it["pins"]),
            it["hits"],
            it["reason"],
        )
        for it in found["items"]
    ]
    columns = ("site", "version", "part", "state", "filled", "size", "leases", "pins", "hits", "reason")
    print_table(rows, columns, empty="nothing is cached; `millrace cache add DATASET --site SITE`")


def _part(entry: dict[str, Any]) -> str:
    """Return what of its version a copy holds, and in which form."""
    paths = ", ".join(entry.get("paths") or ("all",))
    return f"{paths} (packs)" if entry.get("mode") == "packs" else paths


@app.command("add")
def add(
    ref: Ref,
    site: Annotated[
        str | None, typer.Option("--site", "-s", help="without it: where a run would read it soonest")
    ] = None,
    packs: Packs = False,
    path: Paths = None,
    project: Project = DEFAULT,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: AsJson = False,
) -> None:
    """Bring a version, or a part of it, to a site, or to the best one."""
    client = catalog(project)
    name, wanted = split_ref(ref)
    version = client.version(name, wanted)
    entry = client.cache(site, name, version["version"], mode="packs" if packs else "tree", paths=path or ())
    site = entry["site"]
    if wait:
        entry = _wait(client, entry["id"], timeout)
    report(entry, f"{name}@{version['version']} at {site}: {entry['state'].lower()}", as_json=as_json)


@app.command("adopt")
def adopt(
    path: Annotated[str, typer.Argument(help="a folder as the cache manager's machine sees it")],
    ref: Ref,
    site: Site,
    project: Project = DEFAULT,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: AsJson = False,
) -> None:
    """Make a folder that lies at a site already a version's copy; only what differs comes from the lake."""
    client = catalog(project)
    name, wanted = split_ref(ref)
    version = client.version(name, wanted)
    entry = client.adopt(path, site, name, version["version"])
    if wait:
        entry = _wait(client, entry["id"], timeout)
    report(entry, f"{name}@{version['version']} at {site}: {entry['state'].lower()}", as_json=as_json)


@app.command("clear")
def clear(
    ref: Ref,
    site: Site,
    packs: Packs = False,
    path: Paths = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Remove a version from a site: as soon as no run uses it; refused while it is pinned."""
    client = catalog(project)
    shown, entry = _known(client, ref, site, packs=packs, paths=path)
    cleared = client.clear(entry["id"])
    report(cleared, f"{shown} leaves {site}", as_json=as_json)


@app.command("pin")
def pin(
    ref: Ref,
    site: Site,
    name: PinName = "manual",
    reason: Annotated[str, typer.Option("--reason", "-r", help="what it is kept for")] = "",
    packs: Packs = False,
    path: Paths = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Keep a version at a site, whatever happens, until it is unpinned."""
    client = catalog(project)
    shown, entry = _known(client, ref, site, packs=packs, paths=path)
    report(client.pin(entry["id"], name, reason), f"{shown} stays at {site} (pin {name})", as_json=as_json)


@app.command("unpin")
def unpin(
    ref: Ref,
    site: Site,
    name: PinName = "manual",
    packs: Packs = False,
    path: Paths = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Remove a pin; the copy ages from now on."""
    client = catalog(project)
    shown, entry = _known(client, ref, site, packs=packs, paths=path)
    report(client.unpin(entry["id"], name), f"{shown} at {site} has no pin {name} any more", as_json=as_json)


@app.command("scrub")
def scrub(
    site: Site,
    ref: Annotated[str | None, typer.Argument(metavar="[DATASET[@VERSION]]", help="without it: all there")] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Read every byte again, in the background; what is damaged is set aside and fetched again."""
    client = catalog(project)
    if ref is None:
        asked = client.scrub_site(site)
        report(asked, f"{asked['entries']} copies at {site} will be read again", as_json=as_json)
        return
    shown, entry = _known(client, ref, site)
    report(client.scrub(entry["id"]), f"{shown} at {site} will be read again", as_json=as_json)


@app.command("plan")
def plan(
    ref: Ref,
    site: Annotated[str | None, typer.Option("--site", "-s", help="one site only")] = None,
    packs: Packs = False,
    path: Paths = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Say what caching a version would take at each site, the best first. Changes nothing."""
    name, wanted = split_ref(ref)
    found = catalog(project).cache_plan(name, wanted, site, mode="packs" if packs else "tree", paths=path or ())
    if as_json:
        print_json(found)
        return
    print_table(_options(found["sites"]), OPTION_COLUMNS, empty="there are no sites; `millrace cache sites add`")


@app.command("why")
def why(
    ref: Ref,
    site: Site,
    packs: Packs = False,
    path: Paths = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Say how a version stands at a site and why, who holds it, when it would go, and how other sites would do."""
    client = catalog(project)
    _, entry = _known(client, ref, site, packs=packs, paths=path)
    found = client.cache_why(entry["id"])
    if as_json:
        print_json({**entry, **found})
        return
    names = ("path", "files", "bytes", "fetched_bytes", "progress", "hits", "attempts", "retry_at")
    facts = {"state": found["state"], "reason": found["reason"], **{name: entry.get(name) for name in names}}
    facts["held by"] = ", ".join(found["held_by"])
    if (age := found["age_out"]) is not None:
        facts["leaves unused in"] = f"{age['left_seconds']} s ({age['rule']} rule)" if age["left_seconds"] else None
    if (pressure := found["pressure"]) is not None:
        facts["score"] = f"{pressure['score']} (goes after {pressure['goes_after']} of {pressure['of']})"
    print_facts(facts)
    print_table(_options(found["sites"]), OPTION_COLUMNS, empty="there are no sites")


def _options(sites: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (
            it["site"],
            it["verdict"],
            size(it.get("missing_bytes")),
            it.get("requests"),
            it.get("seconds"),
            len(it.get("victims", ())),
            it["reason"],
        )
        for it in sites
    ]


def _known(
    client: Any, ref: str, site: str, *, packs: bool = False, paths: Sequence[str] | None = None
) -> tuple[str, Any]:
    """Return how to call the version, and its entry at the site."""
    name, wanted = split_ref(ref)
    version = client.version(name, wanted)
    shown = f"{name}@{version['version']}"
    found = client.cache_entries(site=site, commit=version["commit"])["items"]
    form = "packs" if packs else "tree"
    for entry in found:
        if entry.get("mode", "tree") == form and set(entry.get("paths", ())) == set(paths or ()):
            return shown, entry
    others = ", ".join(_part(it) for it in found)
    raise NotFound(
        f"nobody asked for {shown} at {site}" + (f" in this form; there are: {others}" if others else ""),
        hint=f"millrace cache add {shown} --site {site}",
    )


def _wait(client: Any, entry_id: str, timeout: float) -> Any:
    clock = SystemClock()
    end = clock.monotonic() + timeout
    while True:
        entry = client.cache_entry(entry_id)
        if entry["state"] == "READY":
            return entry
        if entry["state"] == "FAILED":
            raise Conflict(f"the fill failed: {entry['reason']}")
        if clock.monotonic() > end:
            raise DeadlineExceeded(f"not there after {timeout:g} s: {entry['reason'] or entry['state']}")
        time.sleep(0.2)
