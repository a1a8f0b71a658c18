"""`millrace up | status | logs | down`: the embedded stack by hand. The SDK's CLI mounts them with `register`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from millrace.errors import Invalid, MillraceError, Unavailable
from millrace_stack import stack
from millrace_stack.config import LAKES, SERVICES, StackConfig
from millrace_stack.layout import locate
from millrace_stack.log_files import Follower, recorded
from millrace_stack.state import StackState

OK, FAILURE, USAGE, UNAVAILABLE = 0, 1, 2, 6

Folder = Annotated[
    Path | None, typer.Option("--dir", help="the stack's directory [default: $MILLRACE_HOME, .millrace]")
]
app = typer.Typer(help="The embedded stack: real servers and services on this machine.", no_args_is_help=True)


def register(target: typer.Typer) -> None:
    """Add the commands to another app."""
    for name, command in (("up", up), ("status", status), ("logs", logs), ("down", down)):
        target.command(name)(command)


@app.command()
def up(
    folder: Folder = None,
    ports: Annotated[
        str, typer.Option(help="`default` (8700 to 8705), `auto` (free ones), or service=port,…")
    ] = "default",
    lake: Annotated[str, typer.Option(help="what the lake is: `s3` (SeaweedFS) or `azure` (Azurite)")] = "s3",
    wait: Annotated[bool, typer.Option(help="wait until everything is ready")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="seconds to wait")] = stack.START_SECONDS,
) -> None:
    """Start the real servers and the services, or find the ones that run."""
    console = Console(stderr=True)
    try:
        config = _config(ports, lake)
        with console.status("starting") as spinner:
            started = stack.up(
                folder, config, wait=wait, seconds=timeout, see=lambda state: spinner.update(_waiting(state))
            )
    except MillraceError as error:
        _fail(error)
    state = started.state
    for note in state.notes:
        console.print(Text(note, style="dim"))
    what = "already runs" if started.found else "runs" if state.ready else "is starting"
    typer.echo(f"the stack {what} in {state.directory}")
    for name in ("gateway", "console", "docs", "serving"):
        if name in state.urls:
            typer.echo(f"  {name:<8} {state.urls[name]}")


@app.command()
def status(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the whole state as JSON")] = False,
) -> None:
    """Show what runs, and what each waits for. Exit status 0: all is ready, 6: something is not."""
    layout = locate(folder)
    state = stack.running(layout)
    if state is None:
        _fail(Unavailable(f"no stack runs in {layout.root}", hint="start it with `millrace up`"))
    if as_json:
        typer.echo(state.model_dump_json(indent=1))
    else:
        Console().print(_table(state))
        typer.echo(f"{state.directory}: {state.phase}{'' if state.ready else ', not everything is ready'}")
    raise typer.Exit(OK if state.ready else UNAVAILABLE)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="one process; all of them by default")] = None,
    folder: Folder = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as lines are written")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="how many of the last lines of each")] = 20,
) -> None:
    """Print log lines: JSON from services, their own form from servers."""
    layout = locate(folder)
    files = recorded(layout)
    if not files:
        _fail(Unavailable(f"there are no logs in {layout.root}"))
    if service is not None and service not in files:
        _fail(Invalid(f"there is no process {service!r}", hint=f"one of {', '.join(sorted(files))}"))
    chosen = files if service is None else {service: files[service]}
    follower = Follower(chosen, last=lines)
    try:
        for name, line in follower.lines(forever=follow):
            sys.stdout.write(line + "\n" if service is not None else f"{name:<14} {line}\n")
            sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        raise typer.Exit(OK) from None


@app.command()
def down(
    folder: Folder = None,
    timeout: Annotated[float, typer.Option(min=1, help="seconds before it is killed")] = stack.STOP_SECONDS,
) -> None:
    """Stop the stack and leave no process behind. Its data stays."""
    layout = locate(folder)
    try:
        ran = stack.down(layout.root, seconds=timeout)
    except MillraceError as error:
        _fail(error)
    typer.echo(f"the stack in {layout.root} {'is stopped; its data stays' if ran else 'did not run'}")


def _config(ports: str, lake: str) -> StackConfig:
    kind = next((known for known in LAKES if known == lake), None)
    if kind is None:
        raise Invalid(f"--lake {lake!r} is not one of {', '.join(LAKES)}")
    if ports == "default":
        return StackConfig(lake=kind)
    if ports == "auto":
        return StackConfig(ports="auto", lake=kind)
    known = {spec.name for spec in SERVICES if spec.port is not None}
    named: dict[str, int] = {}
    for pair in ports.split(","):
        name, _, port = pair.partition("=")
        if name not in known or not port.isdigit() or not 0 < int(port) <= 65_535:
            raise Invalid(f"--ports {pair!r} is not `default`, `auto` or service=port")
        named[name] = int(port)
    return StackConfig(named_ports=named, lake=kind)


def _waiting(state: StackState) -> str:
    waiting = state.waiting()
    names = ", ".join(waiting)
    return f"waiting for {len(waiting)} of {len(state.processes)}: {names}"[:120] if waiting else "ready"


def _table(state: StackState) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("process", "state", "pid", "port", "restarts", "waits for"):
        table.add_column(title, overflow="fold")
    for name, one in state.processes.items():
        word, style = ("ready", "green") if one.ready else ("waiting", "yellow") if one.pid else ("down", "red")
        pid, port = str(one.pid or ""), str(one.port or "")
        table.add_row(
            name, Text(word, style=style), pid, port, str(one.restarts), Text("" if one.ready else one.reason or "")
        )
    return table


def _fail(error: MillraceError) -> NoReturn:
    """Print an error for a person and exit with the status of its kind."""
    typer.echo(f"millrace: {error.message}", err=True)
    if error.hint:
        typer.echo(f"  hint: {error.hint}", err=True)
    status = USAGE if isinstance(error, Invalid) else UNAVAILABLE if isinstance(error, Unavailable) else FAILURE
    raise typer.Exit(status)


if __name__ == "__main__":
    app()
