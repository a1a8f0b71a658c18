"""`millrace data ingest` and `millrace data jobs`: saying that data landed, and what becomes of it."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import typer

from millrace.clock import SystemClock, new_id
from millrace.errors import DeadlineExceeded, Invalid
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Timeout, Wait, catalog
from millrace_sdk.cli.output import print_json, print_table, report, say, size

SOURCE = "/people/cli"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
ENDED = {"completed", "failed"}
PAUSE_SECONDS = 0.3

Form = Literal["files", "archive"]
Mode = Literal["replace", "append"]


def register(app: typer.Typer) -> None:
    """Add the commands to `millrace data`."""
    app.command("ingest")(ingest)
    app.command("jobs")(jobs)


def ingest(
    dataset: Annotated[str, typer.Argument(help="the dataset; it is created if there is none")],
    uri: Annotated[
        str, typer.Argument(help="s3://bucket/prefix (az://, gs://), https://…, or file:///folder as ingest sees it")
    ],
    form: Annotated[Form | None, typer.Option("--format", help="by the URI's ending if it is not said")] = None,
    mode: Annotated[Mode, typer.Option(help="`append` keeps what the dataset has")] = "replace",
    url: Annotated[list[str] | None, typer.Option(help="a file below an https:// URI; repeat it")] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="what it is")] = "",
    project: Project = DEFAULT,
    wait: Wait = False,
    timeout: Timeout = 3_600,
    as_json: AsJson = False,
) -> None:
    """Let landed data become a version: a prefix, an archive, URLs or a mounted folder."""
    guessed = "archive" if uri.lower().endswith(ARCHIVES) and not url else None
    data = {"dataset": dataset, "uri": uri, "mode": mode, "message": message, "format": form or guessed, "urls": url}
    event = {
        "specversion": "1.0",
        "id": str(new_id()),
        "source": SOURCE,
        "type": "data.landed",
        "data": {name: value for name, value in data.items() if value},
    }
    client = catalog(project)
    operation = client.send_event(event)
    if wait:
        operation = _ended(client, operation["operation"], timeout)
        if operation["state"] == "failed":
            raise Invalid(f"refused: {operation['reason']}")
        version = operation["result"].get("version")
        report(operation, f"{dataset}@{version}: ingested", as_json=as_json)
        return
    report(operation, f"accepted as operation {operation['operation']}; `millrace data jobs` shows it", as_json=as_json)


def _ended(client: Any, operation: str, timeout: float) -> dict[str, Any]:
    clock = SystemClock()
    end, said = clock.monotonic() + timeout, ""
    while True:
        found: dict[str, Any] = client.operation(operation)
        if found["state"] in ENDED:
            return found
        if found["reason"] and found["reason"] != said:
            said = found["reason"]
            say(said)
        if clock.monotonic() > end:
            raise DeadlineExceeded(f"not done after {timeout:g} s: {said or found['state']}")
        time.sleep(PAUSE_SECONDS)


def jobs(
    dataset: Annotated[str | None, typer.Argument(help="only this dataset's")] = None,
    state: Annotated[str | None, typer.Option(help="QUEUED, RUNNING, COMPLETED or FAILED")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List ingestion jobs, newest first: how far they are, what they became, and why not."""
    found = catalog(project).ingest_jobs(dataset=dataset, state=state, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (it["job"][:12], it["dataset"], it["state"], _files(it), size(it["bytes"]), it["version"], it["reason"])
        for it in found["items"]
    ]
    print_table(rows, ("job", "dataset", "state", "files", "size", "version", "why"), empty="no jobs")


def _files(job: dict[str, Any]) -> str:
    return f"{job['done']} of {job['files']}" if job["state"] == "RUNNING" else str(job["files"])
