"""`millrace tokens`: API tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace_sdk.cli.common import DEFAULT, AsJson, Project, Yes, catalog, confirm
from millrace_sdk.cli.output import print_json, print_table, report, say

app = typer.Typer(help="API tokens.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@app.command("create")
def create(
    principal: Annotated[str, typer.Argument(help="who the token speaks for")],
    role: Annotated[
        list[str], typer.Option("--role", "-r", help="viewer, contributor, trainer, deployer, admin, etl …")
    ],
    description: Annotated[str, typer.Option("--description")] = "",
    project: Project = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Create a token. It is printed once and nowhere kept."""
    body = {"principal": principal, "roles": role, "description": description}
    found = catalog(project).create_token(body)
    if as_json:
        print_json(found)
    else:
        typer.echo(found["token"])
        say("keep it now; it is not shown again")


@app.command("ls")
def ls(project: Project = DEFAULT, as_json: AsJson = False) -> None:
    """List tokens."""
    found = catalog(project).tokens()
    if as_json:
        print_json(found)
        return
    rows = [
        (it["id"], it["principal"], ", ".join(it["roles"]), it["created_at"], it["expires_at"], it["last_used_at"])
        for it in found["items"]
    ]
    print_table(rows, ("token", "principal", "roles", "created", "expires", "last used"), empty="no tokens")


@app.command("revoke")
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN_ID")],
    project: Project = DEFAULT,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Revoke a token; it takes at most 30 s to be refused everywhere."""
    confirm(f"Revoke token {token}?", yes=yes)
    report(catalog(project).revoke_token(token), f"{token} is revoked", as_json=as_json)
