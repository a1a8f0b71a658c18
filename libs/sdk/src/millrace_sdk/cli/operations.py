"""Commands without a noun: what waits, what is wrong, what runs where."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.errors import MillraceError
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog
from millrace_sdk.cli.output import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@app.command("waiting")
def waiting(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Show everything that waits, why, and what would unblock it."""
    found = catalog(project).waiting()
    if as_json:
        print_json(found)
        return
    rows = [(it["kind"], it["name"], it["state"], it["reason"], it["unblock"]) for it in found["items"]]
    print_table(rows, ("what", "name", "state", "why", "what would unblock it"), empty="nothing waits")


@app.command("fsck")
def fsck(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Check the invariants of every service; exit 1 if one is broken."""
    found = catalog(project).fsck()
    if as_json:
        print_json(found)
    else:
        rows = [(it.get("service"), it["invariant"], it["where"], it["what"]) for it in found["violations"]]
        print_table(rows, ("service", "invariant", "where", "what"), empty="clean")
    if found["violations"]:
        raise MillraceError(f"{len(found['violations'])} violation(s)")


@app.command("queue")
def queue(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Show the training queue."""
    found = catalog(project).queue()
    if as_json:
        print_json(found)
        return
    rows = [(it["run"], it["state"], it.get("device"), it["reason"]) for it in found["items"]]
    print_table(rows, ("run", "state", "device", "why"), empty="the queue is empty")


@app.command("operations")
def operations(
    state: Annotated[str | None, typer.Option(help="accepted, running, completed or failed")] = None,
    dataset: Annotated[str | None, typer.Option(help="only events for this dataset")] = None,
    source: Annotated[str | None, typer.Option(help="only events of this outside system")] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show what became of the events that outside systems sent."""
    found = catalog(project).operations(state=state, dataset=dataset, source=source)
    if as_json:
        print_json(found)
        return
    rows = [
        (it["source"], it["id"], it["dataset"], it["state"], it["result"].get("version"), it["reason"])
        for it in found["items"]
    ]
    print_table(rows, ("source", "event", "dataset", "state", "version", "why"), empty="nothing came from outside")


@app.command("gpus")
def gpus(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Show nodes and devices, and who holds them."""
    found = catalog(project).gpus()
    if as_json:
        print_json(found)
        return
    rows = [(it["node"], it["id"], it["name"], it["state"], it["run"], it["reason"]) for it in found["items"]]
    print_table(rows, ("node", "device", "name", "state", "run", "reason"), empty="no node has registered")
    if not any(it["kind"] == "gpu" for it in found["items"]):
        say("no GPU was found; CPU slots stand in")
