"""What FastAPI cannot know of our APIs: how callers identify themselves, and what every refusal looks like."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

PROBLEM = "application/problem+json"

_TEXT = {"type": "string"}
PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Why a request was refused or failed (RFC 9457). Members that depend on `code` may be added.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {**_TEXT, "description": "`urn:millrace:error:<code>`, or `about:blank`"},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {**_TEXT, "description": "what is wrong, for people"},
        "instance": {**_TEXT, "description": "the path that was asked for"},
        "code": {**_TEXT, "description": "what is wrong, for programs"},
        "transient": {"type": "boolean", "description": "whether the same request may succeed later"},
        "hint": {**_TEXT, "description": "what may help"},
    },
}
_REFUSED = {
    "description": "Refused or failed",
    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_NEVER_SENT = ("HTTPValidationError", "ValidationError")
"""FastAPI's own shape of a 422; ours is a problem with status 400."""


def operation_id(route: APIRoute) -> str:
    """Return `<tag>_<function>`, which generated clients use as the name of a method."""
    return f"{route.tags[0] if route.tags else 'api'}_{route.name}".replace("-", "_")


def describe(app: FastAPI) -> None:
    """Let `app.openapi()` say that every route wants a token, and answers with a problem where it does not succeed."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _amended(get_openapi(title=app.title, version=app.version, routes=app.routes))
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of extending its schema


def _amended(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _NEVER_SENT:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "an API token, `mlr_…`"},
    }
    document["security"] = [{"token": []}]
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSED
    return document
