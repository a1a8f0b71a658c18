"""The command tree, and what becomes of errors."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated

import click
import typer

from millrace.errors import MillraceError
from millrace_sdk.cli import (
    cache,
    data,
    deploy,
    dlq,
    drift,
    events,
    labels,
    models,
    operations,
    policies,
    runs,
    tokens,
)
from millrace_sdk.cli.output import clean, say

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
_EXITS = {400: 2, 401: 3, 403: 3, 404: 4, 409: 5, 413: 2, 429: 6, 502: 6, 503: 6, 504: 6}

app = typer.Typer(
    name="millrace",
    help="From the lake to a watched model: datasets, cache, training, serving, drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, group in {
    "data": data.app,
    "cache": cache.app,
    "runs": runs.app,
    "models": models.app,
    "deploy": deploy.app,
    "policies": policies.app,
    "events": events.app,
    "drift": drift.app,
    "labels": labels.app,
    "dlq": dlq.app,
    "tokens": tokens.app,
}.items():
    app.add_typer(group, name=name)
operations.register(app)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    """From the lake to a watched model: datasets, cache, training, serving, drift."""
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"millrace {installed('millrace-sdk')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(EXIT_USAGE)


def _extend() -> None:
    """Add the commands of other installed parts, such as `up` and `down` of the embedded stack."""
    for found in entry_points(group="millrace.cli"):
        found.load()(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code; an error is a message and a hint, never a traceback."""
    _extend()
    try:
        outcome = typer.main.get_command(app).main(args=arguments, prog_name="millrace", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        say("interrupted")
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE if isinstance(error, click.UsageError) else EXIT_FAILED
    except MillraceError as error:
        return _told(error)
    except OSError as error:
        say(f"error: {error.strerror or error}: {clean(error.filename)}")
        return EXIT_FAILED
    return outcome if isinstance(outcome, int) else 0


def _told(error: MillraceError) -> int:
    say(f"error: {clean(error.message)}")
    if error.hint:
        say(f"hint: {clean(error.hint)}")
    if error.context.get("request_id") and error.status >= 500:
        say(f"request: {clean(error.context['request_id'])}")
    return _EXITS.get(error.status, EXIT_FAILED)
