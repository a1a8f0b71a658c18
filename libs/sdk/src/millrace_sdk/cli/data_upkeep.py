"""`millrace data verify|export|rm|restore|gc|rebuild`: what is kept, proved, given away and let go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.errors import Corrupt
from millrace_sdk import folder
from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Yes, catalog, confirm, split_ref
from millrace_sdk.cli.output import print_facts, print_json, print_table, progress, report, say, size
from millrace_sdk.folder import Config

if TYPE_CHECKING:
    from millrace.datasets.lake_verify import LakeResult

HERE = Path()
SHOWN_PATHS = 3
Ref = Annotated[str, typer.Argument(metavar="DATASET[@VERSION]")]
Name = Annotated[str, typer.Argument(metavar="DATASET")]


def register(app: typer.Typer) -> None:
    """Add the commands to `millrace data`."""
    for command in (verify, export, rm, restore, gc, rebuild):
        app.command(command.__name__)(command)


def verify(
    ref: Ref,
    target: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", exists=True, file_okay=False, help="default: the lake")
    ] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Read a folder, or without one the lake itself, byte by byte against a version; exit 1 if it differs."""
    name, version = split_ref(ref)
    if target is None:
        _verify_lake(name, version, project, as_json=as_json)
        return
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


def _verify_lake(name: str, version: str, project: str, *, as_json: bool) -> None:
    with progress("verify") as show:
        found: LakeResult = folder.run(
            HERE, Config(name, project), lambda copy: copy.verify_lake(version, progress=show)
        )
    if as_json:
        print_json({**asdict(found), "clean": found.clean})
    else:
        for damage in found.damaged:
            more = len(damage.paths) - SHOWN_PATHS
            paths = ", ".join(map(ascii, damage.paths[:SHOWN_PATHS])) + (f" and {more} more" if more > 0 else "")
            typer.echo(f"damaged {damage.object}: {damage.reason}; holds {paths}")
    if not found.clean:
        raise Corrupt(
            f"{name}@{version} is damaged in the lake", hint="a folder that `verify` finds whole can be synced"
        )
    what = f"{found.files} files, {size(found.bytes)}, {found.objects} objects of the lake"
    say(f"{what} are what {name}@{version} says")


def export(
    ref: Ref,
    target: Annotated[str, typer.Argument(help="a new .zip, .tar or .tar.gz; s3://, gs://, az://…; - for a tar")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Write a version as plain files into an archive or a bucket of your own, every byte verified."""
    from millrace_sdk.datasets import Dataset
    from millrace_sdk.exporting import export as write

    with Dataset.open(ref, project=project) as dataset, progress("export") as show:
        done = write(dataset, target, progress=show)
    if as_json and target != "-":
        print_json(asdict(done))
    else:
        say(f"{ref}: {done.files} files, {size(done.bytes)} in {target}")


def rm(
    ref: Annotated[str, typer.Argument(metavar="DATASET@VERSION|DATASET")],
    reason: Annotated[str, typer.Option("--reason", help="kept with the removal")] = "",
    force: Annotated[bool, typer.Option("--force", help="although runs or models rest on it")] = False,
    project: Project = DEFAULT,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a version, or a whole dataset. Its bytes stay until `millrace data gc`; until then it can be restored."""
    name, _, version = ref.partition("@")
    what = f"version {version} of {name}" if version else f"dataset {name} with all its versions"
    confirm(f"Remove {what}?", yes=yes)
    found = catalog(project).remove_dataset(name, version or None, reason=reason, force=force)
    report(found, f"{ref} is removed; `millrace data restore {ref}` brings it back for a while", as_json=as_json)


def restore(
    ref: Annotated[str, typer.Argument(metavar="DATASET@VERSION|DATASET")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Bring a removed version or dataset back, while its bytes are kept."""
    name, _, version = ref.partition("@")
    report(catalog(project).restore_dataset(name, version or None), f"{ref} is back", as_json=as_json)


def gc(
    sweep: Annotated[bool, typer.Option("--sweep", help="let it go; without this nothing is changed")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="stop, and spare what is only condemned")] = False,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show what no version of the project needs any more, and with --sweep let it go."""
    client = catalog(project)
    if stop:
        found = client.stop_garbage()
    elif sweep:
        found = client.collect_garbage()
    else:
        found = client.garbage()
    if as_json:
        print_json(found)
        return
    if "plan" in found:
        _print_plan(found["plan"])
    _print_collection(found["collection"])


def _print_plan(plan: dict[str, Any]) -> None:
    rows = [(kind, tally["objects"], size(tally["bytes"])) for kind, tally in plan["kinds"].items()]
    print_table(rows, ("kind", "objects", "size"), empty=f"nothing that was removed before {plan['cutoff']} is left")
    young, kept = plan["too_young"], plan["kept"]
    say(f"{kept['objects']} objects, {size(kept['bytes'])} are needed")
    say(f"{young['objects']} objects, {size(young['bytes'])} are needed by nobody yet, and too young to go")
    if plan["objects"]:
        say(f"{plan['objects']} objects, {size(plan['bytes'])} would go; --sweep lets them")


def _print_collection(collection: dict[str, Any] | None) -> None:
    if collection is None:
        return
    facts = {
        "state": collection["state"],
        "asked by": collection["asked_by"],
        "asked at": collection["asked_at"],
        "removed before": collection["cutoff"],
        "condemned": f"{collection['condemned']['objects']} objects, {size(collection['condemned']['bytes'])}",
        "swept": f"{collection['swept']['objects']} objects, {size(collection['swept']['bytes'])}",
    }
    print_facts({**facts, **({"waits": collection["reason"]} if collection["reason"] else {})})


def rebuild(name: Name, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Make manifests and commits that the lake lost again, from its packs and the catalog; exit 1 if some can't be."""
    found = catalog(project).rebuild_dataset(name)
    if as_json:
        print_json(found)
    else:
        made = f"{len(found['manifests'])} manifests and {len(found['commits'])} commits made again"
        say(f"{name}: {found['versions']} versions looked at, {made}")
        for lost in found["lost"]:
            typer.echo(f"lost {lost['kind']} {lost['id']} of {name}@{lost['version']}")
    if found["lost"]:
        raise Corrupt(f"{len(found['lost'])} objects of {name} cannot be made again")
