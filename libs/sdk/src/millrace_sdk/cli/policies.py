"""`millrace policies`: what follows from what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.errors import Invalid
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Yes, catalog, confirm
from millrace_sdk.cli.output import print_json, print_table, report

app = typer.Typer(help="What follows from what.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)
Name = Annotated[str, typer.Argument(metavar="POLICY")]


@app.command("ls")
def ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List policies."""
    found = catalog(project).policies()
    if as_json:
        print_json(found)
        return
    rows = [(it["name"], it["on"], it["revision"], it["updated_at"]) for it in found["items"]]
    print_table(rows, ("policy", "on", "revision", "changed"), empty="no policies yet")


@app.command("apply")
def apply(
    name: Name,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML or JSON")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Create or replace a policy from a file."""
    found = catalog(project).apply_policy(name, _document(file))
    report(found, f"policy {name}, revision {found['revision']}", as_json=as_json)


def _document(file: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"{file} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict):
        raise Invalid(f"{file} holds no policy")
    return {("on" if key is True else key): value for key, value in document.items()}


@app.command("show")
def show(name: Name, project: Project = DEFAULT) -> None:
    """Print a policy as JSON."""
    print_json(catalog(project).policy(name))


@app.command("rm")
def rm(name: Name, project: Project = DEFAULT, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a policy; what it asked for stays."""
    confirm(f"Remove policy {name}?", yes=yes)
    report(catalog(project).delete_policy(name), f"policy {name} is removed", as_json=as_json)


@app.command("executions")
def executions(name: Name, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List what a policy did, and what of it still waits."""
    found = catalog(project).policy_executions(name)
    if as_json:
        print_json(found)
        return
    rows = [
        (it["created_at"], it["event_type"], request["kind"], request["target"], request["state"], request["reason"])
        for it in found["items"]
        for request in it["requests"]
    ]
    print_table(rows, ("at", "on", "request", "target", "state", "reason"), empty="it has not met an event yet")
