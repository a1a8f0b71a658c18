"""Options that many commands share, and the client that they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from millrace.errors import Invalid

if TYPE_CHECKING:
    from millrace_sdk.client import Catalog

Project = Annotated[str, typer.Option("--project", "-p", envvar="MILLRACE_PROJECT", help="the project that is meant")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Wait = Annotated[bool, typer.Option("--wait", help="return only when it is done")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="seconds to wait at most")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]

DEFAULT = "default"


_open: list[Catalog] = []


def catalog(project: str = DEFAULT) -> Catalog:
    """Return a client, from the environment or the embedded stack; it is closed when the command ends."""
    from millrace_sdk.client import Catalog

    client = Catalog(project=project)
    _open.append(client)
    return client


def close_all() -> None:
    """Close the clients that commands opened."""
    while _open:
        _open.pop().close()


def split_ref(text: str, default: str = "latest") -> tuple[str, str]:
    """Return (name, version) of `name@version`.

    Raises:
        Invalid: there is no name.
    """
    name, _, ref = text.partition("@")
    if not name:
        raise Invalid(f"{text!r} names nothing", hint="write NAME or NAME@VERSION")
    return name, ref or default


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost, unless `--yes` was given."""
    if not yes:
        typer.confirm(question, abort=True, err=True)
