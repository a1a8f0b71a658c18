"""mypy over everything: the sources in one run, then each member's tests in a run of their own.

Every member has a `tests` folder, so that their modules have the same names; from inside the member they are
unambiguous. Sources are strict. Tests need not annotate their fixtures and helpers, but what is annotated is checked.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


TESTS = ["--allow-untyped-defs", "--allow-untyped-calls", "--allow-incomplete-defs", "--allow-any-generics"]
TESTS += ["--no-warn-return-any", "--no-warn-unreachable", "--implicit-reexport", "--no-strict-optional"]
TESTS += ["--disable-error-code", "var-annotated", "--no-warn-unused-ignores"]


def runs() -> list[tuple[Path, list[str]]]:
    """Return (folder to run in, what to check) of every run."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("libs/*/src"), *ROOT.glob("services/*/src")))
    members = sorted(path.parent for path in (*ROOT.glob("libs/*/tests"), *ROOT.glob("services/*/tests")))
    together = [*sources, "benchmarks", "tools", "tests", "conftest.py"]
    return [(ROOT, together), *((member, [*TESTS, "tests"]) for member in members)]


def main() -> int:
    """Check everything; return 1 if anything is wrong."""
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    failed = False
    for folder, what in runs():
        done = subprocess.run([sys.executable, "-m", "mypy", *options, *what], cwd=folder, check=False)  # noqa: S603
        failed = failed or done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
