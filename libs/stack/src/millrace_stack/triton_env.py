"""Triton's environment: a Python of its own, because its Python backend needs numpy 1 and the workspace has numpy 2.

Built once on first need, from requirements pinned by hash.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from millrace.errors import Unavailable
from millrace_stack import environments, preflight

REQUIREMENTS = Path(__file__).with_name("triton-requirements.txt")
VERSION = (2, 51, 0)
"""Of the tritonserver inside `nvidia-pytriton` 0.7.0."""

WHAT = "Triton's environment"


@dataclass(frozen=True)
class TritonEnvironment:
    """A built environment: where its parts lie, and what tritonserver must find in its environment."""

    root: Path

    @property
    def python(self) -> Path:
        """Return the environment's interpreter."""
        return self.root / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Return its site-packages."""
        return self.root / "lib" / f"python{_python()}" / "site-packages"

    @property
    def program(self) -> Path:
        """Return tritonserver."""
        return self.packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """Return the folder of backends: Python's, with the stub of this interpreter."""
        return self.root / "backends"

    def variables(self) -> dict[str, str]:
        """Return the whole environment of the server: its libraries, its interpreter first, nothing inherited."""
        library = preflight.libpython()
        if library is None:
            raise Unavailable("Triton needs the shared library of this Python", hint="run the preflight check")
        return {
            "LD_LIBRARY_PATH": f"{self.packages / 'nvidia_pytriton.libs'}:{library.parent}",
            "PATH": f"{self.root / 'bin'}:{os.defpath}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.root),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
        }


def ensure(fallback: Path, *, environ: Mapping[str, str] | None = None) -> TritonEnvironment:
    """Return the environment, built where it is missing (seconds to a minute, mostly download).

    Args:
        fallback: where to build when the cache folder cannot be written.
        environ: the process environment unless told otherwise.

    Raises:
        Unavailable: the packages cannot be installed; the message holds the installer's last lines.
    """
    told = os.environ if environ is None else environ

    def build(root: Path) -> None:
        _install(root, told)
        _place_backend(TritonEnvironment(root))

    return TritonEnvironment(environments.ensure(f"triton-{_key()}", fallback, build, environ=told, what=WHAT))


def _install(root: Path, environ: Mapping[str, str]) -> None:
    base = getattr(sys, "_base_executable", None) or sys.executable
    uv = _uv(environ)
    environments.run([base, "-m", "venv", *(["--without-pip"] if uv else []), str(root)], environ, what=WHAT)
    pinned = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(REQUIREMENTS)]
    python = str(TritonEnvironment(root).python)
    (root / "uv.toml").touch()  # uv looks upwards for settings; those of a project around us must not reach it
    if uv:
        environments.run(
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *pinned],
            environ,
            what=WHAT,
            folder=root,
        )
    else:
        environments.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned], environ, what=WHAT
        )


def _place_backend(built: TritonEnvironment) -> None:
    server = built.packages / "pytriton" / "tritonserver"
    target = built.backends / "python"
    shutil.copytree(server / "backends" / "python", target)
    stub = target / "triton_python_backend_stub"
    shutil.copy2(server / "python_backend_stubs" / _python() / stub.name, stub)
    for program in (stub, built.program):
        program.chmod(program.stat().st_mode | 0o111)


def _uv(environ: Mapping[str, str]) -> str | None:
    """Return uv: of this environment, of the workspace's tools, or of PATH; without it pip does the same, slower."""
    beside = [Path(sys.prefix) / "bin" / "uv", Path(sys.prefix).parent / ".tools" / "bin" / "uv"]
    found = next((str(path) for path in beside if os.access(path, os.X_OK)), None)
    return found or shutil.which("uv", path=environ.get("PATH"))


def _key() -> str:
    what = [REQUIREMENTS.read_text(encoding="utf-8"), sys.version, sys.base_prefix]
    return sha256("\0".join(what).encode()).hexdigest()[:12]


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
