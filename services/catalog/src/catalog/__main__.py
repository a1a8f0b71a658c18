"""`python -m catalog`: serve until SIGTERM."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from catalog.bootstrap import build
from catalog.settings import CatalogSettings
from millrace.errors import MillraceError
from millrace.runtime import serve
from millrace.settings import SharedSettings, explain
from millrace.telemetry import configure_logs, configure_traces


def main() -> int:
    """Read the settings, build the app, and serve it. A setting that is wrong is said and ends the process."""
    try:
        settings, shared = CatalogSettings(), SharedSettings()
        configure_logs("catalog", shared.log_level)
        configure_traces("catalog", shared.otlp_endpoint)
        app = build(settings, shared)
        serve(app, host=settings.host, port=settings.port)
    except ValidationError as error:
        sys.stderr.write(f"catalog: {explain(error)}\n")
        return 2
    except MillraceError as error:
        sys.stderr.write(f"catalog: {error.message}{f' ({error.hint})' if error.hint else ''}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"catalog: cannot listen on {settings.host}:{settings.port}: {error.strerror}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
