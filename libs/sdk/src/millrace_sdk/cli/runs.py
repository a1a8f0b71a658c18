"""`millrace runs`: trainings."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from millrace.errors import Conflict, Invalid
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Wait, catalog, split_ref
from millrace_sdk.cli.output import clean, print_facts, print_json, print_table, report

app = typer.Typer(help="Trainings.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)
RunId = Annotated[str, typer.Argument(metavar="RUN")]
ENDED = frozenset({"completed", "failed", "cancelled"})


@app.command("ls")
def ls(project: Project = DEFAULT, as_json: AsJson = False, limit: Annotated[int, typer.Option(min=1)] = 50) -> None:
    """List runs, newest first."""
    found = catalog(project).runs(limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            it["run"],
            it["state"],
            it["component"],
            f"{it['dataset']}@{it['version']}",
            it["device"],
            _model(it),
            it["reason"],
        )
        for it in found["items"]
    ]
    print_table(rows, ("run", "state", "component", "data", "device", "model", "reason"), empty="no runs yet")


def _model(run: dict[str, Any]) -> str | None:
    return f"{run['model']}@{run['model_version']}" if run.get("model_version") else None


@app.command("show")
def show(run: RunId, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Show a run."""
    found = catalog(project).run(run)
    if as_json:
        print_json(found)
        return
    names = ("run", "state", "reason", "component", "dataset", "version", "commit", "device", "attempt", "fence")
    facts = {name: found.get(name) for name in names} | {"model": _model(found)}
    print_facts(facts | {f"metric {key}": value for key, value in sorted((found.get("latest") or {}).items())})


@app.command("start")
def start(
    dataset: Annotated[str, typer.Option("--dataset", "-d", metavar="DATASET[@VERSION]")],
    component: Annotated[str, typer.Option("--component", "-c", help="what to run")],
    site: Annotated[str, typer.Option("--site", "-s", help="where the data is cached")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="register the result as a version of it")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", help="NAME=VALUE, any number of times")] = None,
    gpus: Annotated[int, typer.Option(min=0)] = 1,
    packs: Annotated[bool, typer.Option("--packs", help="let it read packs with `Dataset.open`, not files")] = False,
    early: Annotated[
        bool, typer.Option("--early", help="let it begin once the first packs are there; implies --packs")
    ] = False,
    path: Annotated[
        list[str] | None, typer.Option("--path", metavar="PATTERN", help="only what matches, as in .gitignore; repeat")
    ] = None,
    project: Project = DEFAULT,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Ask for a run."""
    client = catalog(project)
    name, ref = split_ref(dataset)
    version = client.version(name, ref)
    body = {
        "dataset": name,
        "version": version["version"],
        "component": component,
        "site": site,
        "model": model,
        "params": dict(_param(text) for text in param or []),
        **({"mode": "packs"} if packs or early else {}),
        **({"early": True} if early else {}),
        **({"paths": path} if path else {}),
        "gpus": gpus,
    }
    run = client.start_run(body)
    if as_json:
        print_json(run)
    else:
        typer.echo(run["run"])
    if wait:
        _follow(client, run["run"])


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Invalid(f"{text!r} is no parameter", hint="write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@app.command("tail")
def tail(run: RunId, project: Project = DEFAULT) -> None:
    """Print a run's log as it comes, until the run ends."""
    _follow(catalog(project), run)


def _follow(client: Any, run: str) -> None:
    after: str | None = None
    while True:
        state = client.run(run)
        page = client.run_logs(run, after=after, limit=1_000)
        for line in page["items"]:
            typer.echo(clean(line["line"]))
        after = page["next"] or after
        if state["state"] in ENDED and not page["items"]:
            break
        if not page["items"]:
            time.sleep(0.3)
    if state["state"] != "completed":
        raise Conflict(f"the run is {state['state']}: {state.get('reason') or 'no reason is known'}")


@app.command("cancel")
def cancel(run: RunId, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Stop a run; its device is free at once."""
    report(catalog(project).cancel_run(run), f"{run} is asked to stop", as_json=as_json)
