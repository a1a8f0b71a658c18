"""The root of the command tree, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from millrace.errors import MillraceError
from millrace_sdk.cli.lazy import LazyGroup
from millrace_sdk.cli.output import clean, say

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
_EXITS = {400: 2, 401: 3, 403: 3, 404: 4, 409: 5, 413: 2, 429: 6, 502: 6, 503: 6, 504: 6}

_Complaint: Any = typer.BadParameter.__mro__[2]
"""`ClickException`. Newer typer brings its own click, so the class of the package `click` would be another one."""

app = typer.Typer(
    name="millrace",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code; an error is a message and a hint, never a traceback."""
    try:
        outcome = typer.main.get_command(app).main(args=arguments, prog_name="millrace", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted")
        return EXIT_INTERRUPTED
    except _Complaint as error:
        error.show()
        return int(error.exit_code)
    except MillraceError as error:
        return _told(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        where = f": {clean(error.filename)}" if error.filename else ""
        say(f"error: {error.strerror or error}{where}")
        return EXIT_FAILED
    finally:
        _close()
    return outcome if isinstance(outcome, int) else 0


def _close() -> None:
    """Close the clients, if any command got as far as to load the module that makes them."""
    common = sys.modules.get("millrace_sdk.cli.common")
    if common is not None:
        common.close_all()


def _told(error: MillraceError) -> int:
    say(f"error: {clean(error.message)}")
    if error.hint:
        say(f"hint: {clean(error.hint)}")
    if error.context.get("request_id") and error.status >= 500:
        say(f"request: {clean(error.context['request_id'])}")
    return _EXITS.get(error.status, EXIT_FAILED)
