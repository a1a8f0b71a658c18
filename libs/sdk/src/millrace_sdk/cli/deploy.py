"""`millrace deploy`: endpoints."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Yes, catalog, confirm, split_ref
from millrace_sdk.cli.output import print_facts, print_json, print_table, report

app = typer.Typer(
    help="Endpoints: what should serve, and what does.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
Name = Annotated[str, typer.Argument(metavar="ENDPOINT")]


@app.command("ls")
def ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List endpoints."""
    found = catalog(project).deployments()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            it["name"],
            f"{it['desired']['model']}@{it['desired']['version']}",
            it["revision"],
            it["observed"]["state"],
            it["observed"]["backend_model"],
            it["observed"]["reason"],
        )
        for it in found["items"]
    ]
    print_table(rows, ("endpoint", "wanted", "revision", "state", "serving", "reason"), empty="no endpoints yet")


@app.command("show")
def show(name: Name, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Show an endpoint."""
    found = catalog(project).deployment(name)
    if as_json:
        print_json(found)
        return
    wanted = {f"wanted {key}": found["desired"][key] for key in ("model", "version", "presence", "reason", "by", "at")}
    print_facts({"endpoint": found["name"], "revision": found["revision"]} | wanted | found["observed"])


@app.command("set")
def set_(
    name: Name,
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL[@VERSION]")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Let an endpoint serve a model version."""
    client = catalog(project)
    wanted, ref = split_ref(model)
    version = client.model_version(wanted, ref)["version"]
    found = client.deploy(name, wanted, version)
    report(found, f"{name} shall serve {wanted}@{version} (revision {found['revision']})", as_json=as_json)


@app.command("rm")
def rm(name: Name, project: Project = DEFAULT, yes: Yes = False, as_json: AsJson = False) -> None:
    """Retire an endpoint."""
    confirm(f"Retire endpoint {name}? Its callers get 404.", yes=yes)
    report(catalog(project).retire(name), f"{name} is retired", as_json=as_json)
