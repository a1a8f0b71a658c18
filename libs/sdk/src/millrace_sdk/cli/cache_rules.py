"""`millrace cache quota` and `millrace cache age-out`: how much a project may hold, and how long unused copies stay."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog
from millrace_sdk.cli.output import print_json, print_table, report, size

GIGABYTE = 1_000_000_000
HOUR = 3_600.0

quota = typer.Typer(
    help="How much a project may hold.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
age_out = typer.Typer(
    help="How long unused copies stay.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
AtSite = Annotated[str | None, typer.Option("--site", "-s", help="at this site; without it, at all together")]
OfDataset = Annotated[str | None, typer.Argument(metavar="[DATASET]", help="a dataset; without it, the whole project")]


@quota.command("ls")
def quota_ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List what the project holds and may hold."""
    found = catalog(project).quotas()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            "all together" if it["site"] == "*" else it["site"],
            size(it["charged_bytes"]),
            size(it["limit_bytes"]),
            it["charged_inodes"],
            it["limit_inodes"],
        )
        for it in found["items"]
    ]
    print_table(rows, ("site", "holds", "may hold", "inodes", "may have"), empty="the project holds nothing")


@quota.command("set")
def quota_set(
    gigabytes: Annotated[float | None, typer.Option("--gb", min=0, help="bytes at most")] = None,
    inodes: Annotated[int | None, typer.Option("--inodes", min=0, help="files and folders at most")] = None,
    site: AtSite = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Limit what the project may hold; without an amount, lift the limit."""
    amount = None if gigabytes is None else int(gigabytes * GIGABYTE)
    found: Any = catalog(project).set_quota(site, amount, inodes)
    limit = size(found["limit_bytes"]) if found["limit_bytes"] is not None else "as much as there is"
    report(found, f"project {project} may hold {limit} at {site or 'all sites together'}", as_json=as_json)


@age_out.command("ls")
def age_out_ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List the rules, the narrowest first."""
    found = catalog(project).age_out()
    if as_json:
        print_json(found)
        return
    rules = sorted(found["items"], key=lambda it: it["dataset"] is None)
    rows = [(f"dataset {it['dataset']}" if it["dataset"] else "project", it["seconds"] / HOUR) for it in rules]
    rows += [(f"site {site}", seconds / HOUR) for site, seconds in sorted(found["sites"].items())]
    print_table([*rows, ("else", found["default_seconds"] / HOUR)], ("copies of", "hours"), empty="")


@age_out.command("set")
def age_out_set(
    hours: Annotated[float, typer.Option("--hours", min=0.001, help="unused copies stay so long")],
    dataset: OfDataset = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Decide for how long unused copies stay; a dataset's rule comes before its project's, and that before a site's."""
    made = catalog(project).set_age_out(hours * HOUR, dataset)
    report(made, f"unused copies of {dataset or f'project {project}'} stay {hours:g} h", as_json=as_json)


@age_out.command("rm")
def age_out_rm(dataset: OfDataset = None, project: Project = DEFAULT) -> None:
    """Remove a rule; the next wider one applies again."""
    catalog(project).unset_age_out(dataset)
