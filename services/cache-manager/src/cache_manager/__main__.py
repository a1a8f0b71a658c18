"""`python -m cache_manager`."""

from __future__ import annotations

from cache_manager.bootstrap import main

if __name__ == "__main__":
    main()
