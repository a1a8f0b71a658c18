"""The names that models carry inside the model server."""

from __future__ import annotations

import re

DEFAULT_PROJECT = "default"
_BACKEND = re.compile(r"^(?:[a-z0-9][a-z0-9-]{0,62}\.)?[a-z0-9][a-z0-9-]{0,62}\.v[1-9][0-9]{0,8}$")


def backend_model(project: str, model: str, version: int) -> str:
    """Return `<model>.v<N>`; other projects than `default` come first, so that equal names never meet.

    Names hold no dots, so the result is unambiguous.
    """
    name = f"{model}.v{version}"
    return name if project == DEFAULT_PROJECT else f"{project}.{name}"


def is_backend_model(name: str) -> bool:
    """Return whether `name` is one that `backend_model` makes: only such models are ours to unload or delete."""
    return _BACKEND.fullmatch(name) is not None
