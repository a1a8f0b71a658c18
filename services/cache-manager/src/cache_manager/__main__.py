"""`python -m cache_manager` runs the service."""

from __future__ import annotations

import sys

from cache_manager.bootstrap import SERVICE, build
from cache_manager.settings import CacheManagerSettings
from millrace.service import run


def main() -> int:
    """Run the service until it is told to stop; return the exit code."""
    return run(SERVICE, CacheManagerSettings, build)


if __name__ == "__main__":
    sys.exit(main())
