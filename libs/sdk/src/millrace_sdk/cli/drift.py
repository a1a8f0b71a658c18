"""`millrace drift`: watched models."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog
from millrace_sdk.cli.output import print_json, print_table, say

app = typer.Typer(help="Watched models.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@app.command("status")
def status(
    deployment: Annotated[str, typer.Argument(metavar="ENDPOINT")], project: Project = DEFAULT, as_json: AsJson = False
) -> None:
    """Show the windows of an endpoint."""
    found = catalog(project).drift(deployment)
    if as_json:
        print_json(found)
        return
    say(f"{found['model']}@{found['version']} against {found['dataset']} {found['commit'][:12]}, {found['rows']} rows")
    rows = [
        (it["revision"], it["number"], it["rows"], it["outcome"], ", ".join(it["fired"][:3]), it["closed_at"])
        for it in found["windows"]
    ]
    print_table(
        rows, ("revision", "window", "rows", "outcome", "what fired", "closed"), empty="no window is closed yet"
    )


@app.command("incidents")
def incidents(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List drift incidents."""
    found = catalog(project).incidents()
    if as_json:
        print_json(found)
        return
    rows = [
        (it["incident"], it["state"], it["deployment"], f"{it['model']}@{it['version']}", it["window"], it["reason"])
        for it in found["items"]
    ]
    print_table(rows, ("incident", "state", "endpoint", "model", "window", "reason"), empty="no incidents")
