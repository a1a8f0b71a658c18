"""Millrace for Python.

    from millrace_sdk import Catalog

    with Catalog() as catalog:
        print(catalog.datasets())

Parts load on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace_sdk.client import AsyncCatalog, Catalog
    from millrace_sdk.datasets import Dataset

_HOMES = {
    "AsyncCatalog": "millrace_sdk.client",
    "Catalog": "millrace_sdk.client",
    "Dataset": "millrace_sdk.datasets",
}

__all__ = ["AsyncCatalog", "Catalog", "Dataset"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
