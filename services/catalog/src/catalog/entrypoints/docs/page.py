"""The page and its few files; nothing else is served, whatever the path says."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse

from millrace.errors import NotFound

HERE = Path(__file__).parent
FILES: dict[str, tuple[Path, str]] = {
    "swagger-ui.css": (HERE / "swagger" / "swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": (HERE / "swagger" / "swagger-ui-bundle.js", "text/javascript"),
    "start.js": (HERE / "start.js", "text/javascript"),
}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)
PAGE = (HERE / "page.html").read_text(encoding="utf-8")


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Show the API's documentation."""
    return HTMLResponse(PAGE, headers={"content-security-policy": CSP, "referrer-policy": "no-referrer"})


@router.get("/docs/files/{name}")
async def docs_file(name: str) -> FileResponse:
    """Return one of the page's files."""
    if name not in FILES:
        raise NotFound("no such file")
    path, media_type = FILES[name]
    return FileResponse(path, media_type=media_type, headers={"cache-control": "public, max-age=3600"})
