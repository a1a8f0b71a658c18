"""`python -m serving` runs the service."""

from __future__ import annotations

import sys

from millrace.service import run
from serving.bootstrap import SERVICE, build
from serving.settings import ServingSettings


def main() -> int:
    """Run the service until it is told to stop; return the exit code."""
    return run(SERVICE, ServingSettings, lambda settings, shared: build(settings, shared).app)


if __name__ == "__main__":
    sys.exit(main())
