"""Prometheus, where the machine has one: it reads every service's /metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from millrace_stack import binaries, http_probe
from millrace_stack.process import Command
from millrace_stack.servers import private_folder


@dataclass
class PrometheusServer:
    """A single Prometheus on the loopback interface; `targets` are job name → host:port."""

    folder: Path
    port: int
    log: Path
    targets: Mapping[str, str] = field(default_factory=dict)
    rule_files: tuple[Path, ...] = ()
    scrape_seconds: int = 5
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    name: str = "prometheus"

    @property
    def url(self) -> str:
        """Return the address of the web interface and the API."""
        return f"http://127.0.0.1:{self.port}"

    def configuration(self) -> dict[str, object]:
        """Return the configuration; JSON is YAML, so no YAML library is needed to write it."""
        every = f"{self.scrape_seconds}s"
        jobs = [{"job_name": job, "static_configs": [{"targets": [at]}]} for job, at in self.targets.items()]
        return {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(file) for file in self.rule_files],
            "scrape_configs": jobs,
        }

    def command(self) -> Command:
        """Write the configuration and return how to run the server."""
        private_folder(self.folder)
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(self.configuration(), indent=1), encoding="utf-8")
        program = binaries.resolve(binaries.PROMETHEUS, environ=self.environ)
        argv = [str(program), f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'data'}"]
        argv += [f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.retention.time=2d"]
        return Command(self.name, tuple(argv), cwd=self.folder, log=self.log, env={"PATH": os.defpath})

    def why_not_ready(self) -> str | None:
        """Return None once the server answers queries."""
        return http_probe.why_not_ok(self.port, "/-/ready", seconds=1.0)
