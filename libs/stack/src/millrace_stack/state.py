"""`state.json`: what runs, for `status`, the CLI, the demo, and the next `up`. Written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace_stack.layout import Layout
from millrace_stack.process import ProcessId

Phase = Literal["starting", "running", "stopping", "stopped", "failed"]

NOT_STARTED, BEING_PREPARED = "not started yet", "is being prepared"


class ProcessState(BaseModel):
    """One supervised process. `reason` says why it is not ready, or why it last ended."""

    model_config = ConfigDict(extra="ignore")

    kind: Literal["server", "service"]
    pid: int | None = None
    started: float | None = None
    port: int | None = None
    ready: bool = False
    reason: str | None = NOT_STARTED
    reasons: dict[str, str] = Field(default_factory=dict, description="a service's /readyz: check → reason")
    restarts: int = 0
    last_exit: int | None = None
    log: str = ""

    @property
    def identity(self) -> ProcessId | None:
        """Return the process's lasting identity, or None while it does not run."""
        return None if self.pid is None or self.started is None else ProcessId(self.pid, self.started)


class StackState(BaseModel):
    """The whole stack at one moment."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(description="marks the environment of every process of this stack")
    directory: str
    phase: Phase = "starting"
    error: str | None = None
    hint: str | None = None
    pid: int = Field(description="the supervisor")
    started: float
    urls: dict[str, str] = Field(default_factory=dict)
    ports: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    processes: dict[str, ProcessState] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list, description="lines for a person: what was skipped, and why")

    @property
    def supervisor(self) -> ProcessId:
        """Return the supervisor's lasting identity."""
        return ProcessId(self.pid, self.started)

    @property
    def alive(self) -> bool:
        """Return whether that very supervisor still runs."""
        return self.supervisor.alive()

    @property
    def ready(self) -> bool:
        """Return whether everything runs and serves."""
        return self.phase == "running" and all(process.ready for process in self.processes.values())

    def waiting(self) -> dict[str, str]:
        """Return what is not ready: process → reason."""
        return {name: one.reason or "not ready" for name, one in self.processes.items() if not one.ready}


def load(layout: Layout) -> StackState | None:
    """Return the recorded state, or None where there is none (or one that is no state)."""
    with contextlib.suppress(OSError, ValidationError):
        return StackState.model_validate_json(layout.state.read_bytes())
    return None


def save(layout: Layout, state: StackState) -> None:
    """Replace the recorded state."""
    aside = layout.state.with_name(f".state.{secrets.token_hex(4)}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(state.model_dump_json(indent=1))
    aside.replace(layout.state)
