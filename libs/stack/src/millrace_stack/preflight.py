"""Checks that this machine can run Millrace, and names what is missing.

Runs before any environment exists: standard library only, as `python preflight.py`. Exit status 0: fine, 1: not.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

OLDEST_GLIBC = (2, 35)
PYTHONS = ((3, 11), (3, 12))
NEEDED_GIGABYTES = 6


def missing(folder: Path) -> list[str]:
    """Return what this machine lacks, one sentence each; nothing means that Millrace can run.

    Args:
        folder: where the environment and the data will lie.
    """
    checks = (_system(), _glibc(), _python(), _libpython(), _venv(), _make(), _disk(folder))
    return [problem for problem in checks if problem is not None]


def libpython() -> Path | None:
    """Return the shared library of this interpreter (Triton's Python backend loads it), or None."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        folders += [Path("/usr/lib") / multiarch, Path("/lib") / multiarch]
    folders += [Path("/usr/lib64"), Path("/usr/lib")]
    files = (Path(folder) / name for folder in folders if folder)
    return next((file for file in files if file.is_file()), None)


def _system() -> str | None:
    found = f"{platform.system()} {platform.machine()}"
    if found in {"Linux x86_64", "Linux amd64"}:
        return None
    return f"Linux on x86-64 is needed; this is {found}"


def _glibc() -> str | None:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        text = ""
    numbers = text.rpartition(" ")[2].split(".")
    if not text.startswith("glibc") or not all(part.isdigit() for part in numbers):
        return "glibc 2.35 or newer is needed; this system has another C library (Alpine's musl cannot run the servers)"
    if tuple(int(part) for part in numbers[:2]) < OLDEST_GLIBC:
        return (
            f"glibc 2.35 or newer is needed; this system has {'.'.join(numbers)} (Debian 12 and Ubuntu 22.04 will do)"
        )
    return None


def _python() -> str | None:
    found = sys.version_info[:2]
    if sys.implementation.name == "cpython" and found in PYTHONS:
        return None
    return f"CPython 3.11 or 3.12 is needed; {sys.executable} is {sys.implementation.name} {found[0]}.{found[1]}"


def _libpython() -> str | None:
    if libpython() is not None:
        return None
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"the shared library {name}.so.1.0 of {sys.executable} is needed by Triton"
        f" (Debian: apt install {name}; pyenv: build with --enable-shared)"
    )


def _venv() -> str | None:
    if all(importlib.util.find_spec(module) is not None for module in ("venv", "ensurepip")):
        return None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"the modules venv and ensurepip are needed (Debian: apt install python{version}-venv)"


def _make() -> str | None:
    return None if shutil.which("make") else "make is needed (Debian: apt install make)"


def _disk(folder: Path) -> str | None:
    free = shutil.disk_usage(folder).free / 1e9
    if free >= NEEDED_GIGABYTES:
        return None
    return f"{NEEDED_GIGABYTES} GB of disk are needed in {folder}; {free:.1f} GB are free"


def main() -> int:
    """Print what is missing, or one line that all is well; return the exit status."""
    problems = missing(Path.cwd())
    if not problems:
        sys.stdout.write(f"this machine can run Millrace: {platform.platform()}, Python {platform.python_version()}\n")
        return 0
    sys.stderr.write("this machine cannot run Millrace:\n")
    for problem in problems:
        sys.stderr.write(f"  - {problem}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
