"""`millrace data encrypt`: the datasets of a project sealed in the lake, from its first one on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Yes, catalog, confirm
from millrace_sdk.cli.output import print_json, report, say

QUESTION = "Encrypt the datasets of {project}? This is never undone, and who loses the master key loses the data."


def register(app: typer.Typer) -> None:
    """Add the command to `millrace data`."""
    app.command("encrypt")(encrypt)


def encrypt(
    project: Project = DEFAULT,
    show: Annotated[bool, typer.Option("--show", help="only say whether it is")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Seal everything that the project's datasets consist of in the lake; only before its first dataset."""
    client = catalog(project)
    state = client.encryption()
    if show:
        if as_json:
            print_json(state)
        else:
            say(f"project {project}: {in_words(state)}")
        return
    if not state["encrypted"]:
        confirm(QUESTION.format(project=project), yes=yes)
    report(client.encrypt(), f"project {project} is encrypted in the lake", as_json=as_json)


def in_words(state: Mapping[str, Any]) -> str:
    """Return what is to be said of a project's encryption."""
    if state["encrypted"]:
        return f"encrypted in the lake with the project's key {state['key_id']}"
    return "not encrypted in the lake" if state["settled"] else "not encrypted in the lake yet"
