"""`python -m trainer`: serve until SIGTERM."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from millrace.errors import MillraceError
from millrace.runtime import serve
from millrace.settings import SharedSettings, explain
from millrace.telemetry import configure_logs, configure_traces
from trainer.bootstrap import SERVICE, build
from trainer.settings import TrainerSettings


def main() -> int:
    """Run the service until it is told to stop; returns the exit code."""
    try:
        settings, shared = TrainerSettings(), SharedSettings()
        configure_logs(SERVICE, shared.log_level)
        configure_traces(SERVICE, shared.otlp_endpoint)
        built = build(settings, shared)
        serve(built.app, host=settings.host, port=settings.port)
    except ValidationError as error:
        sys.stderr.write(f"trainer cannot start:\n{explain(error)}\n")
        return 2
    except MillraceError as error:
        sys.stderr.write(f"trainer cannot start: {error.message}{f' ({error.hint})' if error.hint else ''}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"trainer cannot listen on {settings.host}:{settings.port}: {error.strerror}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
