"""The run's side of the run contract: what a component calls to say how it stands. Standard library only.

    from millrace_sdk.run import current

    run = current()
    for epoch in range(run.params["epochs"]):
        …
        run.metric(epoch, {"loss": loss})

Under an agent, reports go to the Unix socket `MILLRACE_SOCKET` as JSON lines, each answered. By hand, without a
socket, they are printed. The contract is written down in docs/reference/run-contract.md.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 600.0
"""How long a report may take, in seconds: an agent under load links a checkpoint of any size before it answers."""

MAX_ANSWER_BYTES = 1024 * 1024
INPUT = "MILLRACE_INPUT_"


class ReportRefused(Exception):
    """The agent did not take a report; the message says why."""


@dataclass
class Run:
    """One run, as its process sees it.

    `inputs` maps lower-case input names to folders; the dataset version is `dataset`. `checkpoint` is the folder that
    an earlier attempt left, if there is one.
    """

    id: str
    directory: Path
    params: dict[str, Any]
    inputs: dict[str, Path]
    checkpoint: Path | None
    _address: str | None = None
    _socket: socket.socket | None = field(default=None, repr=False)

    def input(self, name: str) -> Path:
        """Return the folder of an input.

        Raises:
            KeyError: the run has no such input.
        """
        return self.inputs[name.lower()]

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        """Report values measured at a step."""
        self._report({"op": "metric", "step": step, "values": {name: float(value) for name, value in values.items()}})

    def log(self, step: int, **values: float) -> None:
        """Report values measured at a step, as keyword arguments."""
        self.metric(step, values)

    def stage(self, code: int, message: str = "") -> None:
        """Report where the run stands: 1xx ingestion, 2xx training, 3xx evaluation."""
        self._report({"op": "stage", "code": code, "message": message})

    def save_checkpoint(self, epoch: int, path: Path) -> None:
        """Hand over a folder that holds a whole checkpoint; returns once the agent holds it (the upload follows)."""
        self._report({"op": "checkpoint", "epoch": epoch, "path": str(path)})

    def model(self, path: Path, metrics: Mapping[str, float]) -> None:
        """Hand over the folder of a model package, with the metrics it is registered with."""
        numbers = {name: float(value) for name, value in metrics.items()}
        self._report({"op": "model", "path": str(path), "metrics": numbers})

    def result(self, values: Mapping[str, Any]) -> None:
        """Say what came of the run; its numbers are kept as the run's metrics."""
        self._report({"op": "result", "values": dict(values)})

    def want(self, names: Sequence[str], *, reader: int = 0, waited: float = 0.0) -> dict[str, Any]:
        """Say which packs of an input that is still being filled are needed next; return how it stands.

        `waited`: seconds since the last call in which nothing could be read. By hand there is nobody to tell.

        Raises:
            ReportRefused: the agent does not answer, or not well.
        """
        if self._address is None:
            return {"standing": "coming", "reason": "no agent is there"}
        said = {"op": "wanted", "names": list(names), "reader": reader, "waited": waited}
        answer = self._ask(json.dumps(said).encode() + b"\n")
        if answer.get("ok") is not True:
            raise ReportRefused(str(answer.get("error", "the agent did not say why")))
        return answer

    def _report(self, message: dict[str, Any]) -> None:
        if self._address is None:
            sys.stdout.write(f"{json.dumps(message)}\n")
            sys.stdout.flush()
            return
        answer = self._ask(json.dumps(message).encode() + b"\n")
        if answer.get("ok") is not True:
            raise ReportRefused(str(answer.get("error", "the agent did not say why")))

    def _ask(self, line: bytes) -> dict[str, Any]:
        """Send one line and return its answer. A lost connection is opened once more."""
        for attempt in (1, 2):
            try:
                connection = self._connected()
                connection.sendall(line)
                answer: dict[str, Any] = json.loads(_read_line(connection))
            except OSError as error:
                self.close()
                if attempt == 2:
                    raise ReportRefused(f"the agent does not answer: {error}") from error
            else:
                return answer
        raise AssertionError("unreachable")

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket = connection
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(self._address))
        return self._socket

    def close(self) -> None:
        """Close the connection to the agent; the next report opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _read_line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionResetError("the agent closed the connection")
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            raise OSError("the agent's answer is too long")
    return data


def current(environ: Mapping[str, str] | None = None) -> Run:
    """Return the run of this process, from the environment that the agent set; by hand, a run in the current folder."""
    environ = os.environ if environ is None else environ
    directory = Path(environ.get("MILLRACE_RUN_DIR", ".")).absolute()
    params = directory / "params.json"
    checkpoint = directory / "checkpoint"
    return Run(
        id=environ.get("MILLRACE_RUN_ID", "by-hand"),
        directory=directory,
        params=json.loads(params.read_text(encoding="utf-8")) if params.is_file() else {},
        inputs={
            name.removeprefix(INPUT).lower(): Path(value) for name, value in environ.items() if name.startswith(INPUT)
        },
        checkpoint=checkpoint if checkpoint.is_dir() else None,
        _address=environ.get("MILLRACE_SOCKET"),
    )
