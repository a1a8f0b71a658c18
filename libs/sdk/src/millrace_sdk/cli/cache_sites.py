"""`millrace cache sites`: the places near the GPUs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.errors import NotFound
from millrace.proximity import probe
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Yes, catalog, confirm
from millrace_sdk.cli.output import print_json, print_table, report, size

app = typer.Typer(help="The places near the GPUs.", rich_markup_mode=None, add_completion=False)
SiteName = Annotated[str, typer.Argument(metavar="SITE", help="the site")]
GIGABYTE = 1_000_000_000
DAY = 86_400.0


@app.callback(invoke_without_command=True)
def sites(context: typer.Context, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List sites with their room, or add, drain and remove them."""
    if context.invoked_subcommand is None:
        _list(project, as_json=as_json)


@app.command("ls")
def ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List sites with their room."""
    _list(project, as_json=as_json)


@app.command("add")
def add(
    site: SiteName,
    path: Annotated[Path, typer.Argument(help="the mount point or folder, as the cache manager sees it")],
    gigabytes: Annotated[float, typer.Option("--gb", min=0.001, help="how much of it is ours")],
    inodes: Annotated[int | None, typer.Option("--inodes", min=1, help="files and folders at most")] = None,
    days: Annotated[float | None, typer.Option("--age-out-days", min=0.0001, help="unused copies stay so long")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a site, or change its size and age-out; its path only while it is empty."""
    more: dict[str, Any] = {} if inodes is None else {"capacity_inodes": inodes}
    if days is not None:
        more["age_out_seconds"] = days * DAY
    made = catalog().set_site(site, str(path), int(gigabytes * GIGABYTE), **more)
    report(made, f"site {site} at {path}, {size(made['capacity_bytes'])}", as_json=as_json)


@app.command("drain")
def drain(
    site: SiteName,
    end: Annotated[bool, typer.Option("--end", help="use the site again")] = False,
    as_json: AsJson = False,
) -> None:
    """Let nothing new come to a site, and everything leave it that no run and no pin holds."""
    found = catalog().drain_site(site, draining=not end)
    report(found, f"site {site} is {found['state']}: {found['reason']}", as_json=as_json)


@app.command("probe")
def probe_site(
    site: SiteName,
    path: Annotated[Path, typer.Argument(help="where the site is mounted on this compute node")],
    as_json: AsJson = False,
) -> None:
    """Measure a site from this machine and send the result: at most 64 MiB read and 200 files opened."""
    found = probe(path / "v")
    if found is None:
        raise NotFound(f"nothing to read below {path}", hint="cache something there first")
    catalog().probe_site(site, found.read_bytes_per_second, found.open_seconds)
    text = f"{size(int(found.read_bytes_per_second))}/s, {found.open_seconds * 1_000:.2f} ms to open a file"
    report({"site": site, **asdict(found)}, text, as_json=as_json)


@app.command("rm")
def rm(site: SiteName, yes: Yes = False) -> None:
    """Forget an empty site; its directory stays."""
    confirm(f"forget site {site}?", yes=yes)
    catalog().remove_site(site)


def _list(project: str, *, as_json: bool) -> None:
    found = catalog(project).sites()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            it["site"],
            it["state"],
            size(it["used_bytes"]),
            size(it["reserved_bytes"]),
            size(it["free_bytes"]),
            size(it["capacity_bytes"]),
            it["free_inodes"],
            it["hits"],
            it.get("misses", "-"),  # a cache manager of before does not count them
            size(it["saved_bytes"]),
            it["reason"],
        )
        for it in found["items"]
    ]
    columns = (
        *("site", "state", "used", "reserved", "free", "capacity", "free inodes"),
        *("hits", "misses", "not downloaded again", "reason"),
    )
    print_table(rows, columns, empty="no sites yet; `millrace cache sites add SITE PATH --gb N`")
