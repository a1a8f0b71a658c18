"""`millrace data checks`: what every version of a dataset must hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog, split_ref
from millrace_sdk.cli.output import print_json, report, say

app = typer.Typer(
    help="What every version of a dataset must hold.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
Name = Annotated[str, typer.Argument(metavar="DATASET")]


@app.command("show")
def show(name: Name, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Print a dataset's checks, as `set` takes them."""
    found = catalog(project).checks(name)
    if as_json:
        print_json(found)
    elif found["checks"]:
        import yaml

        sys.stdout.write(yaml.safe_dump({"checks": found["checks"]}, sort_keys=False, allow_unicode=False))
    else:
        say(f"{name} demands nothing")


@app.command("set")
def set_(
    name: Name,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML or JSON, see docs/how-to/checks.md")],
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Demand the checks of a file of every version to come; programs that it names lie beside it or above."""
    from millrace.checks import parse_checks
    from millrace_sdk.checking import with_digests

    checks = with_digests(parse_checks(file.read_bytes()), file.absolute().parent)
    found = catalog(project).set_checks(name, checks.document)
    report(found, f"every version of {name} has to pass {len(found['checks'])} checks now", as_json=as_json)


@app.command("clear")
def clear(name: Name, project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """Demand nothing any more."""
    report(catalog(project).set_checks(name, {"checks": []}), f"{name} demands nothing now", as_json=as_json)


@app.command("try")
def try_(
    ref: Annotated[str, typer.Argument(metavar="DATASET[@VERSION]")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", exists=True, dir_okay=False, help="these checks, not the dataset's")
    ] = None,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Say what a version fails, programs aside; exit 1 if it fails anything."""
    from millrace.checks import parse_checks
    from millrace.errors import Corrupt

    name, version = split_ref(ref)
    document: Any = None if file is None else parse_checks(file.read_bytes()).document
    found = catalog(project).try_checks(name, version, document)
    if as_json:
        print_json(found)
    else:
        for failure in found["failures"]:
            where = f" ({', '.join(failure['where'])})" if failure["where"] else ""
            typer.echo(f"{failure['check']}: {failure['reason']}{where}")
    if not found["passed"]:
        raise Corrupt(f"{ref} fails {len(found['failures'])} checks")
    say(f"{ref} passes")
