"""Azurite's blob service on the loopback interface, with one account and its key."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from millrace_stack import http_probe
from millrace_stack.azurite_env import Azurite
from millrace_stack.process import Command
from millrace_stack.servers import private_folder

ACCOUNT = "millrace"


def new_key() -> str:
    """Return a fresh account key: 64 bytes in base64, as Azure's are."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


def endpoint(port: int) -> str:
    """Return the account's address; the emulator has the account in the path, not in the host."""
    return f"http://127.0.0.1:{port}/{ACCOUNT}"


@dataclass
class AzuriteServer:
    """`azurite-blob` on the disk below `folder`; nothing is reported home. `built` may install it first."""

    folder: Path
    port: int
    log: Path
    key: str = field(repr=False)
    built: Callable[[], Azurite]
    name: str = "azurite"

    @property
    def endpoint(self) -> str:
        """Return the account's address."""
        return endpoint(self.port)

    def command(self) -> Command:
        """Return how to run the server; its key travels by environment, where only this user can read it."""
        data = private_folder(self.folder / "data")
        built = self.built()
        argv = [str(built.node), str(built.program), "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        # it knows the interface's versions up to its own release; newer clients ask for newer ones
        argv += ["--location", str(data), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        env = {"PATH": os.defpath, "HOME": str(self.folder), "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.key}"}
        return Command(self.name, tuple(argv), cwd=self.folder, log=self.log, env=env)

    def why_not_ready(self) -> str | None:
        """Return None once it answers; 400 or 403, as nobody asks for anything."""
        try:
            http_probe.get(self.port, f"/{ACCOUNT}?comp=list", seconds=1.0)
        except OSError as error:
            return f"no answer: {error.strerror or error}"
        return None
