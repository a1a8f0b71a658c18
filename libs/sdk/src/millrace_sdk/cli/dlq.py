"""`millrace dlq`: messages that a consumer could not handle."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog
from millrace_sdk.cli.output import print_json, print_table, report

app = typer.Typer(help="Dead letters.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)
Letter = Annotated[str, typer.Argument(metavar="LETTER")]


@app.command("ls")
def ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List dead letters."""
    found = catalog(project).dead_letters()
    if as_json:
        print_json(found)
        return
    rows = [(it["id"], it["at"], it["durable"], it["type"], it["state"], it["reason"]) for it in found["items"]]
    print_table(rows, ("letter", "at", "consumer", "type", "state", "reason"), empty="no dead letters")


@app.command("show")
def show(letter: Letter, project: Project = DEFAULT) -> None:
    """Print a dead letter with its headers and body, as JSON."""
    print_json(catalog(project).dead_letter(letter))


@app.command("replay")
def replay(letter: Letter, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Hand a dead letter to the consumer that failed, once more."""
    report(catalog(project).replay(letter), f"{letter} is on its way to its consumer again", as_json=as_json)
