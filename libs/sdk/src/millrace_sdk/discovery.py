"""Where the platform is, and with which token: arguments, environment, the embedded stack's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from millrace.errors import Invalid, Unauthenticated

STACK_FOLDER = ".millrace"
DEFAULT_URL = "http://127.0.0.1:8700"


@dataclass(frozen=True)
class Connection:
    """A gateway's address and an API token."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Access:
    """What somebody said of address and token; what is left open is found where the program runs that connects."""

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None


def connection(
    url: str | None = None,
    token: str | None = None,
    *,
    token_file: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Connection:
    """Return what to connect to.

    The address: the argument, `MILLRACE_URL`, the stack found, the default port. The token: the argument, the file
    that is named, `MILLRACE_TOKEN_FILE`, `MILLRACE_TOKEN`, the owner's token of the stack found. A stack is looked for
    in `MILLRACE_HOME`, else in `.millrace` here and in each folder above.

    Raises:
        Unauthenticated: no token is known.
        Invalid: a file that was named cannot be read.
    """
    environ = os.environ if environ is None else environ
    stack = _stack(environ)
    found_url = url or environ.get("MILLRACE_URL") or (stack and _stack_url(stack)) or DEFAULT_URL
    found_token = (
        token or _named(token_file) or _token_of(environ) or (stack and _read(stack / "secrets" / "owner.token"))
    )
    if not found_token:
        raise Unauthenticated(
            "no API token is known", hint="set MILLRACE_TOKEN_FILE, or run this where `millrace up` was run"
        )
    return Connection(found_url.rstrip("/"), found_token)


def _token_of(environ: Mapping[str, str]) -> str | None:
    return _named(environ.get("MILLRACE_TOKEN_FILE")) or environ.get("MILLRACE_TOKEN")


def _named(path: str | None) -> str | None:
    if not path:
        return None
    found = _read(Path(path))
    if not found:
        raise Invalid(f"cannot read the token file {path}")
    return found


def _stack(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get("MILLRACE_HOME"):
        return Path(named)
    here = Path.cwd()
    folders = (folder / STACK_FOLDER for folder in (here, *here.parents))
    return next((folder for folder in folders if (folder / "state.json").is_file()), None)


def _stack_url(stack: Path) -> str | None:
    try:
        found = json.loads((stack / "state.json").read_text(encoding="utf-8"))["urls"]["gateway"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
