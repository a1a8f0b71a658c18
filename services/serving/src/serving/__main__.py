"""`python -m serving`."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from millrace.errors import MillraceError
from millrace.runtime import serve
from millrace.settings import SharedSettings, explain
from millrace.telemetry import configure_logs, configure_traces
from serving.bootstrap import SERVICE, build
from serving.settings import ServingSettings


def main() -> int:
    """Run the service until it is told to stop; returns the exit code."""
    try:
        settings, shared = ServingSettings(), SharedSettings()
        configure_logs(SERVICE, shared.log_level)
        configure_traces(SERVICE, shared.otlp_endpoint)
        built = build(settings, shared)
    except ValidationError as error:
        sys.stderr.write(f"serving cannot start:\n{explain(error)}\n")
        return 2
    except MillraceError as error:
        sys.stderr.write(f"serving cannot start: {error.message}\n")
        return 2
    serve(built.app, host=settings.host, port=settings.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
