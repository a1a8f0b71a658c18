"""The web console: server-rendered pages over the gateway's own HTTP API. It knows nothing that the API does not."""

from catalog.console.install import ANONYMOUS_PATHS, install

__all__ = ["ANONYMOUS_PATHS", "install"]
