"""`millrace models`: the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.errors import Invalid
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog, split_ref
from millrace_sdk.cli.output import print_facts, print_json, print_table, report

app = typer.Typer(help="Models and their versions.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@app.command("ls")
def ls(
    model: Annotated[str | None, typer.Argument(help="list this model's versions")] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List models, or the versions of one."""
    client = catalog(project)
    found = client.models() if model is None else client.model_versions(model)
    if as_json:
        print_json(found)
    elif model is None:
        rows = [
            (it["name"], it["latest"], ", ".join(f"{k}={v}" for k, v in it["aliases"].items())) for it in found["items"]
        ]
        print_table(rows, ("model", "latest", "aliases"), empty="no models yet")
    else:
        versions = [
            (
                it["version"],
                it["digest"][:12],
                f"{it['dataset']}@{it['dataset_version']}",
                it["metrics"].get("accuracy"),
                ", ".join(it["aliases"]),
                it["created_at"],
            )
            for it in found["items"]
        ]
        columns = ("version", "digest", "trained on", "accuracy", "aliases", "registered")
        print_table(versions, columns, empty="no versions yet")


@app.command("show")
def show(
    ref: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]")], project: Project = DEFAULT, as_json: AsJson = False
) -> None:
    """Show a model version, by number or alias."""
    name, version = split_ref(ref)
    found = catalog(project).model_version(name, version)
    if as_json:
        print_json(found)
        return
    names = (
        "model",
        "version",
        "digest",
        "uri",
        "framework",
        "dataset",
        "dataset_version",
        "commit",
        "run",
        "reference",
    )
    print_facts({key: found[key] for key in names} | {f"metric {k}": v for k, v in sorted(found["metrics"].items())})


@app.command("promote")
def promote(
    ref: Annotated[str, typer.Argument(metavar="MODEL@VERSION")],
    alias: Annotated[str, typer.Argument(help="the alias that shall name it")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Let an alias name a version."""
    name, version = split_ref(ref, default="")
    if not version.isdecimal():
        raise Invalid(f"{ref!r} names no version number", hint="write MODEL@NUMBER")
    found = catalog(project).set_alias(name, alias, int(version))
    report(found, f"{name}@{alias} is version {version}", as_json=as_json)
