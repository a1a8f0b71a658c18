"""Environments that are built once on first need and used for ever: under the user's cache folder, or a fallback.

One is made aside and renamed, so that a half-built one is never seen; whoever loses the race uses the winner's.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from millrace.errors import Unavailable

INSTALL_SECONDS = 600.0
_DONE = ".millrace-complete"


def ensure(name: str, fallback: Path, build: Callable[[Path], None], *, environ: Mapping[str, str], what: str) -> Path:
    """Return the folder of the environment `name`, which `build` fills where it is missing.

    Args:
        name: names it for good: it ends with a digest of all that decides its content.
        fallback: where to build when the cache folder cannot be written.
        build: fills the folder it is given, which does not exist yet.
        environ: the process environment, which names the cache folder.
        what: what it is, for messages.

    Raises:
        Unavailable: no place can be written, or what `build` raises.
    """
    parents = [*_cache(environ), fallback]
    for parent in parents:
        if (parent / name / _DONE).is_file():
            return parent / name
    for parent in parents:
        if _writable(parent):
            return _build(parent / name, build)
    raise Unavailable(f"{what} has no place: {' and '.join(map(str, parents))} cannot be written")


def run(argv: Sequence[str], environ: Mapping[str, str], *, what: str, folder: Path | None = None) -> None:
    """Run an installer.

    Raises:
        Unavailable: it failed; the message holds its last lines.
    """
    env = {key: value for key, value in environ.items() if key not in {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and installers
            list(argv),
            env=env,
            cwd=folder,
            capture_output=True,
            timeout=INSTALL_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{what} cannot be built: {error}") from None
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).decode(errors="replace").splitlines()[-8:])
        raise Unavailable(f"{what} cannot be built: {Path(argv[0]).name} failed\n{last}")


def _build(root: Path, build: Callable[[Path], None]) -> Path:
    aside = root.with_name(f"{root.name}.{secrets.token_hex(4)}.building")
    try:
        build(aside)
        (aside / _DONE).touch()
        if root.is_dir() and not (root / _DONE).is_file():
            shutil.rmtree(root)
        try:
            aside.rename(root)
        except OSError:
            if not (root / _DONE).is_file():  # else somebody else was quicker
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return root


def _cache(environ: Mapping[str, str]) -> list[Path]:
    """Return the user's cache folder for us; none where the environment names no home."""
    if named := environ.get("XDG_CACHE_HOME"):
        return [Path(named) / "millrace"]
    return [Path(environ["HOME"]) / ".cache" / "millrace"] if environ.get("HOME") else []


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
