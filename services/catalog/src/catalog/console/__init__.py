"""The web console: server-rendered pages over the gateway's own HTTP API. It knows nothing that the API does not say."""

from catalog.console.pages import router

__all__ = ["router"]
