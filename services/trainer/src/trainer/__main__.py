"""`python -m trainer` runs the service."""

from __future__ import annotations

import sys

from millrace.service import run
from trainer.bootstrap import SERVICE, build
from trainer.settings import TrainerSettings


def main() -> int:
    """Run the service until it is told to stop; return the exit code."""
    return run(SERVICE, TrainerSettings, lambda settings, shared: build(settings, shared).app)


if __name__ == "__main__":
    sys.exit(main())
