"""libcurl and OpenSSL 3 for mongod where the system has none, from pycurl's wheel.

The wheel bundles both under names of its own; mongod asks for `libcurl.so.4`, `libssl.so.3` and `libcrypto.so.3`. A
folder of links with those names, put on the library path beside the wheel's folder, satisfies it: the loader sees
that link and file are one library, so a process never holds two copies of OpenSSL.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import subprocess
from pathlib import Path

from millrace.errors import Unavailable

WANTED = {"libcurl.so.4": "libcurl-", "libssl.so.3": "libssl-", "libcrypto.so.3": "libcrypto-"}


def library_path(program: Path, folder: Path) -> str | None:
    """Return the `LD_LIBRARY_PATH` with which `program` finds its libraries; None where it finds them anyway.

    Args:
        program: the mongod that is to be started.
        folder: where the links may be made.

    Raises:
        Unavailable: libraries are missing and the wheel cannot supply them.
    """
    missing = _missing(program)
    if not missing:
        return None
    path = supply(folder)
    if still := _missing(program, path):
        raise Unavailable(f"{program.name} needs {', '.join(still)}, which neither the system nor pycurl's wheel has")
    return path


def supply(folder: Path) -> str:
    """Make the links in `folder` and return the library path that uses them."""
    bundled = _bundled()
    folder.mkdir(parents=True, exist_ok=True)
    for name, prefix in WANTED.items():
        target = next((file for file in bundled if file.name.startswith(prefix)), None)
        if target is not None:
            link = folder / name
            with contextlib.suppress(FileNotFoundError):
                link.unlink()
            link.symlink_to(target)
    return os.pathsep.join([str(folder), *sorted({str(file.parent) for file in bundled})])


def _bundled() -> list[Path]:
    try:
        files = importlib.metadata.files("pycurl") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files if file.parent.name == "pycurl.libs"]


def _missing(program: Path, path: str | None = None) -> list[str]:
    """Return the names of shared libraries that the loader does not find."""
    loader = next((ld for ld in (Path("/lib64/ld-linux-x86-64.so.2"),) if ld.exists()), None)
    if loader is None:
        return []
    env = {"PATH": os.defpath} | ({"LD_LIBRARY_PATH": path} if path else {})
    env |= {"LD_TRACE_LOADED_OBJECTS": "1"}
    answer = subprocess.run(  # noqa: S603 - the loader only lists; the program itself is not run
        [str(loader), str(program)], env=env, capture_output=True, timeout=20, check=False
    )
    lines = answer.stdout.decode(errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip().endswith("=> not found")]
