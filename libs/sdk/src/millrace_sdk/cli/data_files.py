"""`millrace data get` and `millrace data zip`: parts of a version without a working copy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog, split_ref
from millrace_sdk.cli.output import progress, report, size

if TYPE_CHECKING:
    from millrace_sdk.downloads import Progress

STANDARD_OUTPUT = Path("-")

Ref = Annotated[str, typer.Argument(metavar="DATASET[@VERSION]")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="write there; - is standard output")
]
Force = Annotated[bool, typer.Option("--force", help="replace a file that is there")]


def register(app: typer.Typer) -> None:
    """Add the commands to `millrace data`."""
    app.command("get")(get)
    app.command("zip")(as_zip)


def get(
    ref: Ref,
    path: Annotated[str, typer.Argument(metavar="PATH", help="a file of the version")],
    output: Output = None,
    force: Force = False,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Bring one file of a version, verified; by default into this folder, under its own name."""
    from millrace_sdk.downloads import get_file

    client = catalog(project)
    name, version = split_ref(ref)
    target = output or Path(path.rpartition("/")[2] or "file")
    found = _written(
        target, lambda out, show: get_file(client, name, version, path, out=out, progress=show), force=force
    )
    _report(found, target, f"{path} of {ref}", as_json=as_json)


def as_zip(
    ref: Ref,
    prefix: Annotated[str, typer.Option(metavar="FOLDER", help="only this folder of the version")] = "",
    output: Output = None,
    force: Force = False,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Bring a version, or a folder of it, as one zip; equal versions give equal bytes."""
    from millrace_sdk.downloads import get_zip

    client = catalog(project)
    name, version = split_ref(ref)
    target = output or Path(f"{name}-{client.version(name, version)['version']}.zip")
    found = _written(
        target, lambda out, show: get_zip(client, name, version, prefix, out=out, progress=show), force=force
    )
    _report(found, target, f"{prefix or 'all'} of {ref}", as_json=as_json)


def _written(target: Path, fetch: Callable[[IO[bytes], Progress], dict[str, Any]], *, force: bool) -> dict[str, Any]:
    from millrace.datasets.progress import Progress as State
    from millrace_sdk.downloads import appearing

    with progress(target.name) as shown:

        def show(done: int, total: int) -> None:
            shown(State(files=1, bytes=total, files_done=int(done == total), bytes_done=done))

        if target == STANDARD_OUTPUT:
            found = fetch(sys.stdout.buffer, show)
            sys.stdout.buffer.flush()
            return found
        with appearing(target, force=force) as out:
            return fetch(out, show)


def _report(found: dict[str, Any], target: Path, what: str, *, as_json: bool) -> None:
    if target != STANDARD_OUTPUT:
        report({**found, "output": str(target)}, f"{what}: {size(found['size'])} in {target}", as_json=as_json)
