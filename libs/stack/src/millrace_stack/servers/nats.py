"""nats-server with JetStream, synced before it acknowledges."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millrace_stack import binaries
from millrace_stack.process import Command
from millrace_stack.servers import private_folder


@dataclass
class NatsServer:
    """A single nats-server. Without `users` everybody on this machine may do everything: for tests.

    `users` is the text of an `authorization { … }` block; see `millrace_stack.natsconf`.
    """

    folder: Path
    port: int
    log: Path
    users: str = ""
    max_file_store: str = "4GB"
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    name: str = "nats"

    @property
    def url(self) -> str:
        """Return the address for clients."""
        return f"nats://127.0.0.1:{self.port}"

    def configuration(self) -> str:
        """Return the text of the configuration file."""
        return f"""\
listen: "127.0.0.1:{self.port}"
server_name: "millrace"
max_payload: 1MB
max_control_line: 4KB
write_deadline: "5s"
lame_duck_duration: "30s"
jetstream {{
  store_dir: {json.dumps(str(self.folder / "store"))}
  max_memory_store: 64MB
  max_file_store: {self.max_file_store}
  sync_interval: always
}}
{self.users}"""

    def command(self) -> Command:
        """Write the configuration (mode 0600) and return how to run the server."""
        private_folder(self.folder)
        file = self.folder / "nats.conf"
        file.touch(mode=0o600)
        file.write_text(self.configuration(), encoding="utf-8")
        program = binaries.resolve(binaries.NATS, environ=self.environ)
        return Command(
            self.name, (str(program), "-c", str(file)), cwd=self.folder, log=self.log, env={"PATH": os.defpath}
        )

    def why_not_ready(self) -> str | None:
        """Return None once the server greets with JetStream switched on."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                greeting = connection.makefile("rb").readline(64 * 1024)
        except OSError as error:
            return f"no greeting: {error.strerror or error}"
        return None if _greeting(greeting).get("jetstream") else "JetStream is not up yet"


def _greeting(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.removeprefix(b"INFO "))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
