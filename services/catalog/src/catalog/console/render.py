"""How a page is made: its template, the headers that each carries, and what an error looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from starlette.staticfiles import StaticFiles

from catalog.console.format import FILTERS
from catalog.console.project import keep_project, kept, project_of
from catalog.console.words import said
from millrace.errors import MillraceError, Unauthenticated

HERE = Path(__file__).parent
PREFIX = "/console"

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

templates = Jinja2Templates(HERE / "templates")
templates.env.filters.update({**FILTERS, "said": said})
static = StaticFiles(directory=HERE / "static")

NAVIGATION = (
    ("Overview", "", "overview"),
    ("Datasets", "/datasets", "datasets"),
    ("Sites", "/sites", "sites"),
    ("Runs", "/runs", "runs"),
    ("Models", "/models", "models"),
    ("Deployments", "/deployments", "deployments"),
    ("Drift", "/drift", "drift"),
    ("Events", "/events", "events"),
)


def new_router() -> APIRouter:
    """Return a router for the pages of one subject."""
    return APIRouter(prefix=PREFIX, include_in_schema=False)


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a template with the headers that every page carries."""
    project = kept(request)
    context |= {"navigation": NAVIGATION, "prefix": PREFIX, "project": project_of(request), "kept": project}
    made = templates.get_template(template).render(request=request, **context)
    response = HTMLResponse(keep_project(made, project) if project else made, status_code=status)
    response.headers["content-security-policy"] = CSP
    response.headers["referrer-policy"] = "same-origin"
    response.headers["cache-control"] = "no-store"
    return response


async def show_error(request: Request, error: MillraceError) -> Response:
    """Show an error as a page of the console, or the sign-in page where that is what is missing.

    Where a part of a page asked, the words alone are the answer; the page's script shows them.
    """
    partly = bool(request.headers.get("hx-request"))
    if isinstance(error, Unauthenticated):
        if partly:
            return Response(status_code=401, headers={"hx-redirect": f"{PREFIX}/login"})
        return RedirectResponse(f"{PREFIX}/login", status_code=303)
    if partly:
        words = f"{error.message} ({error.hint})" if error.hint else error.message
        return PlainTextResponse(words, status_code=error.status)
    return page(request, "error.html", status=error.status, here="", error=error)
