"""`python -m ingest`."""

from __future__ import annotations

from ingest.bootstrap import main

if __name__ == "__main__":
    main()
