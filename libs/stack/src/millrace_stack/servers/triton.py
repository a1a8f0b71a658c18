"""tritonserver on the CPU: Python backend, models loaded only when asked for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from millrace_stack import http_probe
from millrace_stack.process import Command
from millrace_stack.servers import private_folder
from millrace_stack.triton_env import TritonEnvironment

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the Python backend puts its regions, whatever TMPDIR says


@dataclass
class TritonServer:
    """A single tritonserver; `ports` are HTTP, gRPC and metrics."""

    folder: Path
    ports: tuple[int, int, int]
    log: Path
    environment: TritonEnvironment
    repository: Path
    name: str = "triton"

    @property
    def http(self) -> str:
        """Return host:port of the HTTP interface."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def grpc(self) -> str:
        """Return host:port of the gRPC interface."""
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def _region(self) -> str:
        return f"millrace_triton_{self.ports[0]}_"

    def command(self) -> Command:
        """Make the folders, clear what a killed server left in shared memory, and return how to run it."""
        private_folder(self.folder)
        self.repository.mkdir(parents=True, exist_ok=True)
        self.clear()
        http, grpc, metrics = self.ports
        argv = [str(self.environment.program), f"--model-repository={self.repository}"]
        argv += [f"--backend-directory={self.environment.backends}", "--model-control-mode=explicit"]
        argv += ["--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1", f"--grpc-port={grpc}"]
        argv += ["--metrics-address=127.0.0.1", f"--metrics-port={metrics}", "--exit-timeout-secs=5"]
        argv += [f"--backend-config=python,shm-region-prefix-name={self._region}", "--disable-auto-complete-config"]
        argv += ["--http-thread-count=2", "--model-load-thread-count=2", "--allow-gpu-metrics=false"]
        return Command(self.name, tuple(argv), cwd=self.folder, log=self.log, env=self.environment.variables())

    def clear(self) -> None:
        """Remove the shared memory regions of this server's past lives."""
        for region in SHARED_MEMORY.glob(f"{self._region}*"):
            with contextlib.suppress(OSError):
                region.unlink()

    def why_not_ready(self) -> str | None:
        """Return None once the server answers; it has no model then, which is right."""
        return http_probe.why_not_ok(self.ports[0], "/v2/health/ready", seconds=1.0)
