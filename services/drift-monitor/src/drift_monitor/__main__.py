"""`python -m drift_monitor` runs the service."""

from __future__ import annotations

import sys

from drift_monitor.bootstrap import SERVICE, build
from drift_monitor.settings import DriftMonitorSettings
from millrace.service import run


def main() -> int:
    """Run the service until it is told to stop; return the exit code."""
    return run(SERVICE, DriftMonitorSettings, lambda settings, shared: build(settings, shared).app)


if __name__ == "__main__":
    sys.exit(main())
