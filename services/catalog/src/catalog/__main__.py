"""`python -m catalog` runs the service."""

from __future__ import annotations

import sys

from catalog.bootstrap import SERVICE, build
from catalog.settings import CatalogSettings
from millrace.service import run


def main() -> int:
    """Run the service until it is told to stop; return the exit code."""
    return run(SERVICE, CatalogSettings, build)


if __name__ == "__main__":
    sys.exit(main())
