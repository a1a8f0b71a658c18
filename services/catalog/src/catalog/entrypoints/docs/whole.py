"""One OpenAPI document of everything that the gateway answers: its own routes, and those that it passes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SHARED = frozenset({"Problem"})
"""Schemas that mean the same in every service."""
_REFERENCE = re.compile(r'"#/components/schemas/([^"/]+)"')


@dataclass(frozen=True)
class Part:
    """A service's own document, and the path prefixes that are passed on to it."""

    service: str
    prefixes: tuple[str, ...]
    document: Mapping[str, Any]


def whole(own: Mapping[str, Any], parts: Iterable[Part]) -> dict[str, Any]:
    """Return `own` with the paths of `parts` below their prefixes, and the schemas that these paths need."""
    paths, schemas = dict(own["paths"]), dict(own["components"]["schemas"])
    for part in parts:
        renamed = _renamed(part)
        paths |= {path: item for path, item in renamed["paths"].items() if _below(path, part.prefixes)}
        schemas |= renamed["components"]["schemas"]
    return {**own, "paths": paths, "components": {**own["components"], "schemas": schemas}}


def _renamed(part: Part) -> dict[str, Any]:
    """Return the part's document with the service in front of each schema's name, which others may use, too."""
    front = part.service.title().replace("-", "")

    def name_of(name: str) -> str:
        return name if name in SHARED else f"{front}{name}"

    text = _REFERENCE.sub(
        lambda found: f'"#/components/schemas/{name_of(found.group(1))}"', json.dumps(dict(part.document))
    )
    document: dict[str, Any] = json.loads(text)
    schemas = document.get("components", {}).get("schemas", {})
    return {**document, "components": {"schemas": {name_of(name): schema for name, schema in schemas.items()}}}


def _below(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)
