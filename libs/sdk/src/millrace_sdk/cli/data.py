"""`millrace data`: datasets and their versions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.errors import Invalid, NotFound
from millrace_sdk import folder, pointer
from millrace_sdk.cli import data_checks, data_encrypt, data_files, data_upkeep, ingest, records
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog, split_ref
from millrace_sdk.cli.output import print_json, print_table, progress, report, say, size
from millrace_sdk.folder import Config, Plan
from millrace_sdk.selection import skipping, wanted

if TYPE_CHECKING:
    from millrace.datasets.manifest import ManifestDiff

app = typer.Typer(
    help="Datasets and their versions.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
Folder = Annotated[
    Path, typer.Option("--folder", "-C", exists=True, file_okay=False, help="work there instead of here")
]
Ref = Annotated[str, typer.Argument(metavar="DATASET[@VERSION]")]
Include = Annotated[
    list[str] | None, typer.Option("--include", metavar="PATTERN", help="only what matches (as in .gitignore); repeat")
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="not what matches (as in .gitignore); repeat")
]
HERE = Path()
ingest.register(app)
records.register(app)
data_files.register(app)
data_upkeep.register(app)
data_encrypt.register(app)
app.add_typer(data_checks.app, name="checks")


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be committed and sent")] = False,
    include: Include = None,
    exclude: Exclude = None,
    where: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Commit the folder as it is: only what the lake does not have is sent.

    What `.millraceignore` at its top names is left out.
    """
    root = folder.find(where.absolute())
    config = folder.read(root)
    skip = skipping(root, include=include or (), exclude=exclude or ())
    if dry_run:
        _, found, plan = folder.run(root, config, lambda copy: copy.plan(skip=skip))
        _print_plan(found, plan, as_json=as_json)
        return
    with progress("sync") as show:
        done = folder.run(root, config, lambda copy: copy.sync(message, progress=show, skip=skip))
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
    skip = skipping(root)
    head, found = folder.run(root, config, lambda copy: copy.status(skip=skip))
    sealed = data_encrypt.in_words(catalog(config.project).encryption())
    say(f"dataset {config.dataset}, " + (f"head {head['version']}" if head else "no version yet") + f"; {sealed}")
    _print_diff(found, as_json=as_json)


def _print_plan(found: ManifestDiff, plan: Plan, *, as_json: bool) -> None:
    if as_json:
        changes = {"added": found.added, "removed": found.removed, "changed": found.changed}
        print_json({**changes, **asdict(plan)})
        return
    _print_diff(found, as_json=False)
    seconds = "unknown before the first sync" if plan.seconds is None else f"about {plan.seconds:.1f} s"
    say(f"would send {size(plan.bytes)} in {plan.requests} requests; {seconds}")


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


@app.command("link")
def link(
    ref: Ref,
    target: Annotated[
        Path | None, typer.Argument(help="the folder that the data belongs in; default: its name")
    ] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Write a small file, FOLDER.millrace, that names a version beside the code; `millrace data pull` follows it."""
    name, wanted_version = split_ref(ref)
    found = catalog(project).version(name, wanted_version)
    facts = {key: found[key] for key in ("commit", "tree_root", "version", "files", "bytes")} | {"dataset": name}
    path = Path(f"{target or name}{pointer.SUFFIX}")
    pointer.write(path, pointer.Pointer(project=project, **facts))
    report(
        {**facts, "path": str(path)},
        f"{path} names {name}@{found['version']}; commit it with the code",
        as_json=as_json,
    )


@app.command("pull")
def pull(
    ref: Annotated[str | None, typer.Argument(metavar="[DATASET[@VERSION]|FILE.millrace]")] = None,
    target: Annotated[Path | None, typer.Argument(help="a new folder")] = None,
    include: Include = None,
    exclude: Exclude = None,
    force: Annotated[bool, typer.Option("--force", help="throw away changes in folders that pointers name")] = False,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Bring a version into a new folder, every file verified; or what the pointer files here name."""
    if ref is None or (target is None and ref.endswith(pointer.SUFFIX)):
        _follow([Path(ref)] if ref else list(pointer.below(Path())), force=force, as_json=as_json)
        return
    if target is None:
        raise Invalid("name the folder that it shall lie in", hint=f"millrace data pull {ref} FOLDER")
    folder_of, only = target.absolute(), wanted(include=include or (), exclude=exclude or ())
    name, version = split_ref(ref)
    with progress("pull") as show:
        done = folder.run(
            HERE, Config(name, project), lambda copy: copy.pull(version, folder_of, progress=show, wanted=only)
        )
    if as_json:
        print_json(done)
    else:
        say(f"{name}@{done['version']}: {done['files']} files, {size(done['bytes'])} in {target}")


def _follow(pointers: list[Path], *, force: bool, as_json: bool) -> None:
    if not pointers:
        raise NotFound("no pointer file lies here", hint="`millrace data link DATASET` writes one")
    results = []
    for path in pointers:
        found, target = pointer.read(path), pointer.target_of(path).absolute()
        with progress(path.name) as show:
            done = folder.run(
                HERE,
                Config(found.dataset, found.project),
                lambda copy, found=found, target=target, show=show: copy.follow(  # type: ignore[misc]
                    found.commit, target, force=force, progress=show
                ),
            )
        results.append({"pointer": str(path), "dataset": found.dataset, **done})
        if not as_json:
            what = f"{size(done['fetched'])} fetched" if done["changed"] else "nothing to do"
            say(f"{pointer.target_of(path)} is {found.dataset}@{done['version']}: {what}")
    if as_json:
        print_json(results)
