"""`millrace data records`: what the files of a version are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, catalog, split_ref
from millrace_sdk.cli.output import NOTHING, print_json, print_table, say, size

MAX_FACTS = 4


def register(app: typer.Typer) -> None:
    """Add the command to `millrace data`."""
    app.command("records")(records)


def records(
    ref: Annotated[str, typer.Argument(metavar="DATASET[@VERSION]")],
    kind: Annotated[str | None, typer.Option("--type", "-t", help="only records of this type, as `CT Slice`")] = None,
    path: Annotated[str, typer.Option(help="only ids that begin so; groups begin with /series/ or /studies/")] = "",
    summary: Annotated[bool, typer.Option("--summary", help="count them by type")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List the typed records of a version that was ingested; one that people pushed has none."""
    client = catalog(project)
    name, version = split_ref(ref)
    if summary:
        _print_summary(client.record_summary(name, version), as_json=as_json)
        return
    found = _pages(client, name, version, {"type": kind, "path": path or None}, limit)
    if as_json:
        print_json(found)
        return
    rows = [(it["type"], size(it["size"]), it["id"], _shown(it["metadata"])) for it in found["items"]]
    print_table(rows, ("type", "size", "id", "metadata"), empty=_empty(found))
    if found["next"]:
        say(f"there are more: --limit shows up to 100000 of them, and these are {len(rows)}")


def _pages(client: Any, name: str, version: str, where: dict[str, Any], limit: int) -> dict[str, Any]:
    items: list[Any] = []
    after: str | None = None
    while True:
        wanted = {**where, "after": after, "limit": min(1_000, limit - len(items))}
        page: dict[str, Any] = client.records(name, version, **wanted)
        items += page["items"]
        after = page["next"]
        if after is None or len(items) >= limit:
            return {**page, "items": items}


def _print_summary(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        (kind, counted["records"], size(counted["bytes"]), ", ".join(found["columns"].get(kind, ())))
        for kind, counted in found["types"].items()
    ]
    print_table(rows, ("type", "records", "size", "metadata"), empty=_empty(found))


def _empty(found: dict[str, Any]) -> str:
    return "no such records" if found["records"] else "the version has no table of records: it was not ingested"


def _shown(metadata: dict[str, Any]) -> str:
    plain = {name: value for name, value in metadata.items() if not isinstance(value, list | dict)}
    shown = ", ".join(f"{name}={value}" for name, value in list(plain.items())[:MAX_FACTS])
    return shown or NOTHING
