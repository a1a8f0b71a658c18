"""`millrace cache`: versions at sites near the GPUs."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from millrace.clock import SystemClock
from millrace.errors import Conflict, DeadlineExceeded, NotFound
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Timeout, Wait, catalog, split_ref
from millrace_sdk.cli.output import print_facts, print_json, print_table, report, size

app = typer.Typer(
    help="Versions at sites near the GPUs.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
Ref = Annotated[str, typer.Argument(metavar="DATASET[@VERSION]", help="a dataset, at its head or at a version")]
Site = Annotated[str, typer.Option("--site", "-s", help="the site")]


@app.command("sites")
def sites(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List sites with their room."""
    found = catalog(project).sites()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            it["site"],
            size(it["used_bytes"]),
            size(it["free_bytes"]),
            size(it["capacity_bytes"]),
            size(it["saved_bytes"]),
        )
        for it in found["items"]
    ]
    print_table(rows, ("site", "used", "free", "capacity", "not downloaded again"), empty="no sites yet")


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
            it["state"].lower(),
            f"{it['progress']:.0%}",
            size(it["bytes"]),
            len(it["leases"]),
            it["hits"],
            it["reason"],
        )
        for it in found["items"]
    ]
    columns = ("site", "version", "state", "filled", "size", "leases", "hits", "reason")
    print_table(rows, columns, empty="nothing is cached; `millrace cache add DATASET --site SITE`")


@app.command("add")
def add(
    ref: Ref,
    site: Site,
    project: Project = DEFAULT,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: AsJson = False,
) -> None:
    """Bring a version to a site."""
    client = catalog(project)
    name, wanted = split_ref(ref)
    version = client.version(name, wanted)
    entry = client.cache(site, name, version["version"])
    if wait:
        entry = _wait(client, site, version["commit"], timeout)
    report(entry, f"{name}@{version['version']} at {site}: {entry['state'].lower()}", as_json=as_json)


@app.command("clear")
def clear(ref: Ref, site: Site, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Remove a version from a site; refused while a run uses it."""
    client = catalog(project)
    name, wanted = split_ref(ref)
    version = client.version(name, wanted)
    entry = _entry(client, site, version["commit"])
    if entry is None:
        raise NotFound(f"{name}@{version['version']} is not at {site}")
    cleared = client.clear(entry["id"])
    report(cleared, f"{name}@{version['version']} leaves {site}", as_json=as_json)


@app.command("why")
def why(ref: Ref, site: Site, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Say how a version stands at a site, and why."""
    client = catalog(project)
    name, wanted = split_ref(ref)
    version = client.version(name, wanted)
    entry = _entry(client, site, version["commit"])
    if entry is None:
        raise NotFound(f"nobody asked for {name}@{version['version']} at {site}")
    if as_json:
        print_json(entry)
        return
    names = ("state", "reason", "path", "files", "bytes", "fetched_bytes", "progress", "hits", "attempts", "retry_at")
    print_facts({name: entry.get(name) for name in names})


def _entry(client: Any, site: str, commit: str) -> Any:
    found = client.cache_entries(site=site, commit=commit)["items"]
    return next((it for it in found if it["site"] == site and it["commit"] == commit), None)


def _wait(client: Any, site: str, commit: str, timeout: float) -> Any:
    clock = SystemClock()
    end = clock.monotonic() + timeout
    while True:
        entry = _entry(client, site, commit)
        if entry is not None and entry["state"] == "READY":
            return entry
        if entry is not None and entry["state"] == "FAILED":
            raise Conflict(f"the fill failed: {entry['reason']}")
        if clock.monotonic() > end:
            reason = entry["reason"] if entry else "nothing is known of it"
            raise DeadlineExceeded(f"not there after {timeout:g} s: {reason}")
        time.sleep(0.2)
