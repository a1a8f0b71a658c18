"""`millrace data`: datasets and their versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.errors import Corrupt
from millrace_sdk import folder
from millrace_sdk.cli import ingest, records
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog, split_ref
from millrace_sdk.cli.output import print_json, print_table, progress, report, say, size
from millrace_sdk.folder import Config

if TYPE_CHECKING:
    from millrace.datasets.manifest import ManifestDiff

app = typer.Typer(
    help="Datasets and their versions.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
Folder = Annotated[
    Path, typer.Option("--folder", "-C", exists=True, file_okay=False, help="work there instead of here")
]
Ref = Annotated[str, typer.Argument(metavar="DATASET[@VERSION]")]
HERE = Path()
ingest.register(app)
records.register(app)


@app.command("init")
def init(
    name: Annotated[str, typer.Argument(help="the dataset's name")],
    description: Annotated[str, typer.Option("--description", "-d")] = "",
    project: Project = DEFAULT,
    where: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make this folder the working copy of a dataset, which is created if there is none."""
    found = catalog(project).create_dataset(name, description)
    folder.write(where.absolute(), Config(name, project))
    report(found, f"{where.absolute()} is dataset {name} now; `millrace data sync` commits it", as_json=as_json)


@app.command("sync")
def sync(
    message: Annotated[str, typer.Option("--message", "-m", help="what changed")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be committed")] = False,
    where: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Commit the folder as it is: only what the lake does not have is sent."""
    root = folder.find(where.absolute())
    config = folder.read(root)
    if dry_run:
        _print_diff(folder.run(root, config, lambda copy: copy.status())[1], as_json=as_json)
        return
    with progress("sync") as show:
        done = folder.run(root, config, lambda copy: copy.sync(message, progress=show))
    if as_json:
        print_json(done.as_json())
    elif done.changed:
        what = f"{done.files} files, {size(done.bytes)}, {size(done.uploaded_bytes)} sent"
        say(f"{done.dataset}@{done.version}: {what}, commit {done.commit[:12]}")
    else:
        say(f"nothing changed since {done.dataset}@{done.version}")


@app.command("status")
def status(where: Folder = HERE, as_json: AsJson = False) -> None:
    """Show how the folder differs from the dataset's head."""
    root = folder.find(where.absolute())
    config = folder.read(root)
    head, found = folder.run(root, config, lambda copy: copy.status())
    say(f"dataset {config.dataset}, " + (f"head {head['version']}" if head else "no version yet"))
    _print_diff(found, as_json=as_json)


@app.command("diff")
def diff(
    ref: Ref,
    other: Annotated[str, typer.Argument(metavar="VERSION", help="the newer version")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show by file what differs between two versions of a dataset."""
    name, old = split_ref(ref)

    async def compare(copy: folder.WorkingCopy) -> ManifestDiff:
        return (await copy.manifest(old)).diff(await copy.manifest(other))

    _print_diff(folder.run(HERE, Config(name, project), compare), as_json=as_json)


def _print_diff(found: ManifestDiff, *, as_json: bool) -> None:
    if as_json:
        print_json({"added": found.added, "removed": found.removed, "changed": found.changed})
        return
    marks = {"+": found.added, "-": found.removed, "~": found.changed}
    for mark, paths in marks.items():
        for path in paths:
            typer.echo(f"{mark} {path}")
    say(f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed")


@app.command("log")
def log(
    name: Annotated[str | None, typer.Argument(metavar="DATASET", help="default: this folder's")] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List the versions of a dataset, newest first."""
    if name is None:
        config = folder.read(folder.find(Path.cwd()))
        name, project = config.dataset, config.project
    found = catalog(project).versions(name)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            it["version"],
            it["commit"][:12],
            it["files"],
            size(it["bytes"]),
            it["author"],
            it["created_at"],
            it["message"],
        )
        for it in sorted(found["items"], key=lambda it: -it["version"])
    ]
    columns = ("version", "commit", "files", "size", "author", "committed", "message")
    print_table(rows, columns, empty="no version yet")


@app.command("ls")
def ls(
    ref: Annotated[str | None, typer.Argument(metavar="DATASET[@VERSION]")] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List datasets, or the files of a version."""
    if ref is None:
        found = catalog(project).datasets()
        if as_json:
            print_json(found)
            return
        rows = [
            (it["name"], it["head"] and it["head"]["version"], it["created_at"], it["description"])
            for it in found["items"]
        ]
        print_table(rows, ("dataset", "head", "created", "description"), empty="no datasets yet")
        return
    name, version = split_ref(ref)
    manifest = folder.run(HERE, Config(name, project), lambda copy: copy.manifest(version))
    if as_json:
        print_json([{"path": it.path, "size": it.size, "blake3": it.hex} for it in manifest.entries()])
        return
    for entry in manifest.entries():
        typer.echo(f"{entry.size:>12}  {entry.path}")


@app.command("pull")
def pull(
    ref: Ref,
    target: Annotated[Path, typer.Argument(help="a new folder")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Bring a version into a new folder, every file verified."""
    name, version = split_ref(ref)
    with progress("pull") as show:
        done = folder.run(
            HERE, Config(name, project), lambda copy: copy.pull(version, target.absolute(), progress=show)
        )
    if as_json:
        print_json(done)
    else:
        say(f"{name}@{done['version']}: {done['files']} files, {size(done['bytes'])} in {target}")


@app.command("verify")
def verify(
    ref: Ref,
    target: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Read a folder byte by byte and compare it with a version; exit 1 if it differs."""
    name, version = split_ref(ref)
    found = folder.run(HERE, Config(name, project), lambda copy: copy.verify(version, target.absolute()))
    if as_json:
        print_json({"missing": found.missing, "extra": found.extra, "damaged": found.damaged, "clean": found.clean})
    else:
        for word, paths in {"missing": found.missing, "extra": found.extra, "damaged": found.damaged}.items():
            for path in paths:
                typer.echo(f"{word} {path}")
    if not found.clean:
        raise Corrupt(f"{target} is not {name}@{version}")
    say(f"{found.files} files are what {name}@{version} says")
