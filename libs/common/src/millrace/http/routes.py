"""Enumerating the routes of an app, so that a test can prove that none is without a guard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant


@dataclass(frozen=True)
class RouteGuard:
    """One method of one route, and the action that guards it; None means anonymous."""

    method: str
    path: str
    action: str | None


def enumerate_routes(app: FastAPI) -> list[RouteGuard]:
    """Return every method of every route of `app`. Mounts and plain routes count as unguarded.

    FastAPI keeps included routers as a tree whose nodes list their routes by `effective_candidates()`; the leaves
    carry their full path and dependencies. A node of a kind not known here is listed unguarded, never left out.
    """
    return sorted(_walk(app.routes), key=lambda guard: (guard.path, guard.method))


def _walk(routes: Iterable[Any]) -> Iterator[RouteGuard]:
    for route in routes:
        if hasattr(route, "effective_candidates"):
            yield from _walk(route.effective_candidates())
            continue
        plain = getattr(route, "starlette_route", None) or route
        dependant = getattr(route, "dependant", None)
        action = None if dependant is None else _action(dependant)
        path = str(getattr(route, "path", None) or getattr(plain, "path", "?"))
        for method in sorted(getattr(route, "methods", None) or getattr(plain, "methods", None) or {"*"}):
            yield RouteGuard(method, path, action)


def _action(dependant: Dependant) -> str | None:
    own = getattr(dependant.call, "action", None)
    if own is not None:
        return str(own)
    return next((found for child in dependant.dependencies if (found := _action(child)) is not None), None)
