"""`millrace cache quota|age-out|prefetch`: how much a project may hold, how long copies stay, what is brought early."""

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
prefetch = typer.Typer(
    help="What is brought before anybody asks.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
RuleName = Annotated[str, typer.Argument(metavar="RULE", help="the rule's name")]
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


@prefetch.command("ls")
def prefetch_ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List the project's rules, and why one could not act."""
    found = catalog(project).prefetches()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            it["name"],
            it["trigger"],
            it["dataset"] or "any",
            it["site"],
            it["at"] or it["every_seconds"],
            it["last"],
            it["problem"],
        )
        for it in found["items"]
    ]
    columns = ("rule", "on", "dataset", "site", "schedule", "last", "problem")
    print_table(rows, columns, empty="no prefetch rules")


@prefetch.command("set")
def prefetch_set(
    rule: RuleName,
    on: Annotated[str, typer.Option("--on", help="commit, run or schedule")],
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="without it: any")] = None,
    site: Annotated[str | None, typer.Option("--site", "-s", help="where to; a run names its own")] = None,
    hours: Annotated[float | None, typer.Option("--every-hours", min=0.02)] = None,
    at: Annotated[str | None, typer.Option("--at", help="daily, HH:MM in UTC")] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Bring versions when they are committed, when a run asks for them, or on a schedule."""
    every = None if hours is None else hours * HOUR
    body = {"trigger": on, "dataset": dataset, "site": site, "every_seconds": every, "at": at}
    report(catalog(project).set_prefetch(rule, body), f"prefetch rule {rule} is set", as_json=as_json)


@prefetch.command("rm")
def prefetch_rm(rule: RuleName, project: Project = DEFAULT) -> None:
    """Remove a rule."""
    catalog(project).remove_prefetch(rule)
