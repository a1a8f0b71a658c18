"""The project that a page shows: named by `?project=`, and kept by every address that the page holds.

Templates write addresses without it; it is put into the finished page, so that no link can be forgotten.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi import Request

from millrace.patterns import NAME_PATTERN

DEFAULT = "default"
_NAME = re.compile(NAME_PATTERN)
_ADDRESS = re.compile(
    r'(?<=[\s])(?P<name>href|action|src|hx-get|hx-post|data-curves|data-drift)="'
    r'(?P<path>/console(?!/static/|/login"|/logout")[^"?#]*)(?:\?(?P<query>[^"#]*))?(?P<rest>(?:#[^"]*)?)"'
)
"""Addresses of the console in attributes. Text of other people's cannot look like one: its quotes are escaped."""


def project_of(request: Request) -> str:
    """Return the project that a request names."""
    return request.query_params.get("project", DEFAULT)


def kept(request: Request) -> str | None:
    """Return the project that addresses have to carry on, None for the default one or what is no project's name."""
    project = project_of(request)
    return project if project != DEFAULT and _NAME.fullmatch(project) else None


def within(request: Request, path: str) -> str:
    """Return an address of the console, a path without a query, in the project of a request."""
    project = kept(request)
    return f"{path}?project={quote(project)}" if project else path


def keep_project(html: str, project: str) -> str:
    """Return a page whose addresses of the console all name the project."""

    def named(found: re.Match[str]) -> str:
        query = f"{found['query']}&amp;" if found["query"] else ""
        return f'{found["name"]}="{found["path"]}?{query}project={project}{found["rest"]}"'

    return _ADDRESS.sub(named, html)
