"""Which components exist: name → argument vector. Nothing else can be run, and nothing passes through a shell."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

Argv = tuple[str, ...]

BUILT_IN: Mapping[str, Argv] = MappingProxyType(
    {
        "classifier": (sys.executable, "-m", "millrace_components.classifier"),
        "noop": (sys.executable, "-I", "-m", "millrace_components.noop"),
    }
)
"""The components of `libs/components`, in this installation's own interpreter."""


class Components:
    """The registry of one trainer: the built-in components, and those of its settings."""

    def __init__(self, more: Mapping[str, Argv] | None = None) -> None:
        self._known = {**BUILT_IN, **(more or {})}

    def argv(self, name: str) -> Argv | None:
        """Return the argument vector of a component, or None if there is no such component."""
        return self._known.get(name)

    def names(self) -> list[str]:
        """Return the names of all components."""
        return sorted(self._known)
