"""/docs: the OpenAPI document to read and try, with everything it needs served from here."""

from catalog.entrypoints.docs.page import router

__all__ = ["router"]
