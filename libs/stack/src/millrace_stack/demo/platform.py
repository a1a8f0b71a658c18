"""The running platform as the demo sees it: the HTTP API, and the CLI as a person would type it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace_sdk import Catalog
from millrace_stack.demo.waiting import StepFailed

CLI_SECONDS = 90.0


@dataclass(frozen=True)
class Address:
    """Where the platform listens, and the file with the owner's token."""

    gateway: str
    serving: str
    token_file: Path


class Platform:
    """Reads states and runs commands."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.token = address.token_file.read_text(encoding="utf-8").strip()
        self._catalog = Catalog(address.gateway, token=self.token)

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of `GET path`."""
        return self._catalog.request("GET", path, params=params)

    def items(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Return the items of a list."""
        found: list[dict[str, Any]] = self.get(path, **params)["items"]
        return found

    def event(self, event_type: str, match: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """Return the newest event of a type whose data matches, or None."""
        found = self.events(type=event_type, order="newest", limit=50)
        return next((event for event in found if match(event["data"])), None)

    def events(self, **params: Any) -> list[dict[str, Any]]:
        """Return events of the log, as they were published."""
        return [item["event"] for item in self.items("/v1/events", **params)]

    def waiting(self) -> str:
        """Return what waits and why, for the message of a step that failed."""
        found = self.items("/v1/waiting")
        return "; ".join(f"{item['kind']} {item['name']}: {item['reason']}" for item in found) or "nothing waits"

    def cli(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run `millrace …` and return what it printed.

        Raises:
            StepFailed: the command failed.
        """
        environment = {
            **os.environ,
            "MILLRACE_URL": self.address.gateway,
            "MILLRACE_TOKEN_FILE": str(self.address.token_file),
        }
        command = [str(Path(sys.executable).with_name("millrace")), *arguments]
        done = subprocess.run(  # noqa: S603 - our own command with our own arguments
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=CLI_SECONDS, check=False
        )
        if done.returncode:
            raise StepFailed(f"`millrace {' '.join(arguments)}` exited {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout
