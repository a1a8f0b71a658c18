"""`millrace events`: what happened, and saying that data landed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.errors import Invalid
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog
from millrace_sdk.cli.output import clean, print_json, print_table, say

app = typer.Typer(help="What happened.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)
Kind = Annotated[str | None, typer.Option("--type", "-t", help="only events of this type")]
Correlation = Annotated[str | None, typer.Option("--correlation", "-c", help="only one story")]


@app.command("ls")
def ls(
    kind: Kind = None,
    correlation: Correlation = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
) -> None:
    """List the newest events, oldest of them first."""
    found = catalog(project).events(type=kind, correlation=correlation, order="newest", limit=limit)
    items = list(reversed(found["items"]))
    if as_json:
        print_json(items)
        return
    rows = [(it["position"], *_row(it["event"])) for it in items]
    print_table(rows, ("position", "time", "type", "subject", "correlation"), empty="no events")


def _row(event: dict[str, Any]) -> tuple[str, str, str, str]:
    return event["time"], event["type"], event["subject"], event["correlationid"]


@app.command("watch")
def watch(kind: Kind = None, correlation: Correlation = None, project: Project = DEFAULT) -> None:
    """Print events as they happen, one JSON object a line, until interrupted."""
    client = catalog(project)
    newest = client.events(order="newest", limit=1)["items"]
    after = newest[0]["position"] if newest else 0
    while True:
        for item in client.events(type=kind, correlation=correlation, after=after)["items"]:
            after = item["position"]
            typer.echo(json.dumps(item["event"]))
        time.sleep(0.5)


@app.command("send")
def send(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a CloudEvent `data.landed` as JSON")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Send a CloudEvent, as external ETL does."""
    try:
        event = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise Invalid(f"{file} is not JSON") from None
    found = catalog(project).send_event(event)
    if as_json:
        print_json(found)
    else:
        typer.echo(clean(found["operation"]))
    say("accepted; `millrace waiting` shows it until it is done")
