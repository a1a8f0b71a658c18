"""A command group whose parts load when they are used: `millrace --help` needs names and one line each, no more."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

GROUPS: dict[str, str] = {
    "data": "Datasets and their versions.",
    "cache": "Versions at sites near the GPUs.",
    "runs": "Trainings.",
    "models": "Models and their versions.",
    "deploy": "Endpoints: what should serve, and what does.",
    "policies": "What follows from what.",
    "events": "What happened.",
    "drift": "Watched models.",
    "labels": "Labels that are asked for.",
    "dlq": "Dead letters.",
    "tokens": "API tokens.",
}
"""Noun → help; the module of the same name has the commands in its `app`."""

OPERATIONS: dict[str, str] = {
    "waiting": "Show everything that waits, why, and what would unblock it.",
    "fsck": "Check the invariants of every service; exit 1 if one is broken.",
    "queue": "Show the training queue.",
    "operations": "Show what became of the events that outside systems sent.",
    "gpus": "Show nodes and devices, and who holds them.",
}
"""Command of the module `operations` → help."""

STACK: dict[str, str] = {
    "up": "Start the real servers and the services, or find the ones that run.",
    "status": "Show what runs, and what each waits for.",
    "logs": "Print log lines.",
    "down": "Stop the stack and leave no process behind.",
}
"""Command of the embedded stack → help; it is mounted through the entry point group `millrace.cli` if installed."""

ENTRY_POINTS = "millrace.cli"


class LazyGroup(TyperGroup):
    """The root of the command tree."""

    shown: ClassVar[dict[str, str]] = {**GROUPS, **OPERATIONS, **STACK}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the framework's signature
        """Return all names, for help and completion."""
        return list(self.shown)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the framework's signature
        """Return a stand-in with the help of a command, which is all that a listing shows."""
        if cmd_name not in self.shown:
            return None
        return TyperGroup(name=cmd_name, help=self.shown[cmd_name], rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the command that is called."""
        name = args[0] if args else ""
        command = _load(name)
        if command is None:
            ctx.fail(f"No such command {name!r}.")
        return name, command, args[1:]


def _load(name: str) -> Any:
    if name in GROUPS:
        command = typer.main.get_command(import_module(f"millrace_sdk.cli.{name}").app)
        command.name = name
        return command
    if name in OPERATIONS:
        return _commands(import_module("millrace_sdk.cli.operations").app).get(name)
    return _commands(_mounted()).get(name)


def _commands(app: typer.Typer) -> dict[str, Any]:
    group = typer.main.get_command(app)
    return dict(getattr(group, "commands", {}))


def _mounted() -> typer.Typer:
    """Return an app with the commands of other installed parts, such as `up` and `down` of the embedded stack."""
    from importlib.metadata import entry_points

    app = typer.Typer(rich_markup_mode=None)
    app.callback()(_nothing)
    for found in entry_points(group=ENTRY_POINTS):
        found.load()(app)
    return app


def _nothing() -> None:
    """Keep an app with one command a group."""
