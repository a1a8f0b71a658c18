"""`python -m ingest` runs the service."""

from __future__ import annotations

import sys

from ingest.bootstrap import SERVICE, build
from ingest.settings import IngestSettings
from millrace.service import run


def main() -> int:
    """Run the service until it is told to stop; return the exit code."""
    return run(SERVICE, IngestSettings, build)


if __name__ == "__main__":
    sys.exit(main())
