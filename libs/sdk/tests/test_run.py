from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from millrace_sdk.run import ReportRefused, current


@contextmanager
def agent(path: Path, answers: list[bytes]) -> Iterator[list[dict[str, Any]]]:
    """Answer one line after the other; an empty answer closes the connection instead."""
    got: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while answers:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as lines:
                    for line in lines:
                        got.append(json.loads(line))
                        answer = answers.pop(0)
                        if not answer:
                            break
                        connection.sendall(answer)
                        if not answers:
                            return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield got
        thread.join(10)


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        "MILLRACE_RUN_ID": "run-1",
        "MILLRACE_RUN_DIR": str(folder),
        "MILLRACE_INPUT_DATASET": "/data/digits",
        **more,
    }


def test_a_run_knows_what_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"epochs": 3}')
    run = current(environment(tmp_path))
    assert (run.id, run.params, run.input("dataset"), run.checkpoint) == (
        "run-1",
        {"epochs": 3},
        Path("/data/digits"),
        None,
    )
    (tmp_path / "checkpoint").mkdir()
    assert current(environment(tmp_path)).checkpoint == tmp_path / "checkpoint"
    with pytest.raises(KeyError):
        run.input("other")


def test_reports_are_lines_that_are_answered(tmp_path: Path) -> None:
    with agent(tmp_path / "s", [b'{"ok": true}\n'] * 5) as got:
        run = current(environment(tmp_path, MILLRACE_SOCKET=str(tmp_path / "s")))
        run.stage(200, "training")
        run.log(1, loss=0.5, accuracy=1)
        run.save_checkpoint(1, tmp_path / "c")
        run.model(tmp_path / "m", {"accuracy": 0.9})
        run.result({"best": 1})
        run.close()
    assert got == [
        {"op": "stage", "code": 200, "message": "training"},
        {"op": "metric", "step": 1, "values": {"loss": 0.5, "accuracy": 1.0}},
        {"op": "checkpoint", "epoch": 1, "path": str(tmp_path / "c")},
        {"op": "model", "path": str(tmp_path / "m"), "metrics": {"accuracy": 0.9}},
        {"op": "result", "values": {"best": 1}},
    ]


def test_a_lost_connection_is_opened_once_more(tmp_path: Path) -> None:
    with agent(tmp_path / "s", [b'{"ok": true}\n', b"", b'{"ok": true}\n']) as got:
        run = current(environment(tmp_path, MILLRACE_SOCKET=str(tmp_path / "s")))
        run.log(1, loss=0.5)
        run.log(2, loss=0.4)
        run.close()
    assert [message["step"] for message in got] == [1, 2, 2]


def test_a_refusal_says_why(tmp_path: Path) -> None:
    with agent(tmp_path / "s", [b'{"ok": false, "error": "lease lost"}\n']):
        run = current(environment(tmp_path, MILLRACE_SOCKET=str(tmp_path / "s")))
        with pytest.raises(ReportRefused, match="lease lost"):
            run.stage(200)
        run.close()


def test_no_agent_at_all_is_said(tmp_path: Path) -> None:
    run = current(environment(tmp_path, MILLRACE_SOCKET=str(tmp_path / "nobody")))
    with pytest.raises(ReportRefused, match="does not answer"):
        run.stage(200)


def test_by_hand_reports_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = current({})
    run.log(1, loss=0.5)
    assert json.loads(capsys.readouterr().out) == {"op": "metric", "step": 1, "values": {"loss": 0.5}}
    assert run.params == {}


def test_it_needs_the_standard_library_only() -> None:
    script = (
        "import sys, millrace_sdk.run; print([m for m in sys.modules if m.split('.')[0] in "
        "('httpx', 'pydantic', 'rich', 'typer', 'numpy', 'pyarrow', 'millrace')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
