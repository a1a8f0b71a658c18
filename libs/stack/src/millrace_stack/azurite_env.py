"""Azurite, Microsoft's emulator of Azure Storage, from npm: for `--lake azure` and for tests.

Built once on first need by `npm ci` from the lock in the folder `azurite`, which pins every package by its digest. No
package's install script runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from millrace.errors import Unavailable
from millrace_stack import binaries, environments

FILES = Path(__file__).with_name("azurite")
LISTS = ("package.json", "package-lock.json")
OLDEST_NODE = (20, 0)
WHAT = "Azurite"


@dataclass(frozen=True)
class Azurite:
    """A built Azurite, and the Node.js that runs it."""

    root: Path
    node: Path

    @property
    def program(self) -> Path:
        """Return the script of the blob service."""
        return self.root / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def why_not(environ: Mapping[str, str] | None = None) -> str | None:
    """Return what this machine lacks, or None."""
    search = (os.environ if environ is None else environ).get("PATH")
    node, npm = shutil.which("node", path=search), shutil.which("npm", path=search)
    found = binaries.version(Path(node)) if node else None
    if npm is None or found is None or found < OLDEST_NODE:
        return f"no Node.js {OLDEST_NODE[0]} or newer with npm on this machine"
    return None


def ensure(fallback: Path, *, environ: Mapping[str, str] | None = None) -> Azurite:
    """Return Azurite, installed where it is missing (a quarter of a minute, mostly download).

    Args:
        fallback: where to build when the cache folder cannot be written.
        environ: the process environment unless told otherwise.

    Raises:
        Unavailable: Node.js is missing, or the packages cannot be installed.
    """
    told = os.environ if environ is None else environ
    if (reason := why_not(told)) is not None:
        raise Unavailable(reason, hint="Debian: apt install nodejs npm")

    def build(root: Path) -> None:
        root.mkdir()
        for name in LISTS:
            shutil.copy2(FILES / name, root / name)
        npm = shutil.which("npm", path=told.get("PATH")) or "npm"
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
        environments.run([npm, "ci", *options], told, what=WHAT, folder=root)

    node = Path(shutil.which("node", path=told.get("PATH")) or "node").absolute()
    return Azurite(environments.ensure(f"azurite-{_key()}", fallback, build, environ=told, what=WHAT), node)


def _key() -> str:
    return sha256("\0".join((FILES / name).read_text(encoding="utf-8") for name in LISTS).encode()).hexdigest()[:12]
