"""`millrace labels`: answering what the drift monitor asks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.errors import Invalid
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog
from millrace_sdk.cli.output import print_json, print_table, report

app = typer.Typer(help="Labels that are asked for.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)
Queue = Annotated[str, typer.Argument(metavar="QUEUE")]
BATCH = 500


@app.command("queues")
def queues(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List label queues."""
    found = catalog(project).label_queues()
    if as_json:
        print_json(found)
        return
    rows = [
        (it["queue"], it["state"], it["deployment"], f"{it['answered']} of {it['count']}", it["random"], it["margin"])
        for it in found["items"]
    ]
    print_table(rows, ("queue", "state", "endpoint", "answered", "random", "by margin"), empty="nobody asks for labels")


@app.command("items")
def items(
    queue: Queue,
    project: Project = DEFAULT,
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 200,
) -> None:
    """List the samples of a queue."""
    found = catalog(project).label_items(queue, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [(it["prediction"], it["kind"], it["predicted"], it["label"]) for it in found["items"]]
    print_table(rows, ("prediction", "chosen by", "predicted", "label"), empty="the queue is empty")


@app.command("submit")
def submit(
    queue: Queue,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV (prediction,label) or JSON")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Answer samples from a file; answers may come in any number of parts."""
    answers = _answers(file)
    client = catalog(project)
    for start in range(0, len(answers), BATCH):
        client.submit_labels(queue, answers[start : start + BATCH])
    report({"answers": len(answers)}, f"{len(answers)} answers taken", as_json=as_json)


def _answers(file: Path) -> list[dict[str, str]]:
    try:
        text = file.read_text(encoding="utf-8")
        rows: Any = list(csv.DictReader(text.splitlines())) if file.suffix == ".csv" else json.loads(text)
        rows = rows["answers"] if isinstance(rows, dict) else rows
        return [{"prediction": str(row["prediction"]), "label": str(row["label"])} for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Invalid(
            f"{file} holds no answers", hint="CSV with the columns prediction,label, or a JSON list"
        ) from None
