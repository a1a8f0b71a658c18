from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millrace.errors import Conflict, Forbidden, Invalid, MillraceError, NotFound, Unauthenticated, Unavailable
from millrace_sdk.cli import main
from millrace_sdk.cli.lazy import GROUPS, OPERATIONS, STACK

from .gateway import Gateway

PAGE: dict[str, Any] = {"items": [], "next": None}


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in (*GROUPS, *OPERATIONS, *STACK):
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", [*GROUPS, *OPERATIONS, *STACK])
def test_every_command_loads_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: millrace {name}" in capsys.readouterr().out


def test_help_is_there_at_once() -> None:
    """At most 300 ms; processor time is counted, because the machine may be busy with others."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [str(Path(sys.executable).with_name("millrace")), "--help"], capture_output=True, check=True, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert b"data" in done.stdout
    assert min(spent) < 0.3


@pytest.mark.parametrize(
    "arguments",
    [["nosuch"], ["data", "nosuch"], ["data", "init"], ["runs", "ls", "--bogus"], ["runs", "ls", "--limit", "x"], []],
)
def test_wrong_usage_is_2_and_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert "Usage: millrace" in shown.err + shown.out
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("bad"), 2), (Unauthenticated("who"), 3), (Forbidden("no"), 3), (NotFound("gone"), 4),
        (Conflict("clash"), 5), (MillraceError("broken"), 1),
    ],
)  # fmt: skip
def test_exit_codes_tell_what_went_wrong(
    gateway: Gateway, error: MillraceError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    error.hint = "do this"
    gateway.failures = [error]
    assert main(["runs", "ls"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {error.message}\nhint: do this\n")


def test_an_absent_platform_is_6(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MILLRACE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MILLRACE_TOKEN", "t")
    monkeypatch.setattr("millrace_sdk.client.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("millrace_sdk.client._Attempts.pause", _give_up)
    assert main(["queue"]) == 6
    assert "millrace status" in capsys.readouterr().err


def _give_up(_self: Any, error: MillraceError) -> float:
    raise error


def test_an_interrupt_is_130(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("millrace_sdk.calls.Calls.waiting", interrupt)
    assert main(["waiting"]) == 130


LISTS = {
    ("runs", "ls"): "/v1/runs",
    ("models", "ls"): "/v1/models",
    ("deploy", "ls"): "/v1/deployments",
    ("policies", "ls"): "/v1/policies",
    ("policies", "executions", "p"): "/v1/policies/p/executions",
    ("events", "ls"): "/v1/events",
    ("cache", "ls"): "/v1/cache/entries",
    ("cache", "sites"): "/v1/cache/sites",
    ("cache", "sites", "ls"): "/v1/cache/sites",
    ("cache", "quota", "ls"): "/v1/cache/quotas",
    ("labels", "queues"): "/v1/labels/queues",
    ("labels", "items", "q"): "/v1/labels/queues/q/items",
    ("drift", "incidents"): "/v1/drift/incidents",
    ("dlq", "ls"): "/v1/dlq",
    ("tokens", "ls"): "/v1/tokens",
    ("data", "ls"): "/v1/datasets",
    ("data", "jobs"): "/v1/ingest/jobs",
    ("waiting",): "/v1/waiting",
    ("queue",): "/v1/queue",
    ("operations",): "/v1/operations",
    ("gpus",): "/v1/gpus",
}


@pytest.mark.parametrize("arguments", LISTS)
def test_lists_say_when_they_are_empty_and_are_json_for_programs(
    gateway: Gateway, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.answers["GET", LISTS[arguments]] = PAGE
    assert main([*arguments]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err) > 3
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) in (PAGE, [])


ACTIONS: dict[tuple[str, ...], tuple[str, str, Any]] = {
    ("runs", "cancel", "r"): ("DELETE", "/v1/queue/r", {"run": "r"}),
    ("models", "promote", "m@3", "best"): ("PUT", "/v1/models/m/aliases/best", {"version": 3}),
    ("deploy", "rm", "d", "--yes"): ("DELETE", "/v1/deployments/d", {"name": "d"}),
    ("policies", "rm", "p", "--yes"): ("DELETE", "/v1/policies/p", {"name": "p"}),
    ("dlq", "replay", "x"): ("POST", "/v1/dlq/x/replay", {"state": "replayed"}),
    ("data", "ingest", "d", "s3://b/default/landing/x"): ("POST", "/v1/events", {"operation": "o"}),
    ("tokens", "revoke", "t", "--yes"): ("DELETE", "/v1/tokens/t", {"id": "t"}),
}


@pytest.mark.parametrize("arguments", ACTIONS)
def test_actions_say_what_they_did(
    gateway: Gateway, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    method, path, answer = ACTIONS[arguments]
    gateway.answers[method, path] = answer
    assert main([*arguments]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_what_a_server_says_cannot_move_the_cursor(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2Jowned\x07[bold]x[/bold]"
    row = {"kind": "run", "name": evil, "state": "queued", "reason": evil, "unblock": "\r\n"}
    gateway.answers["GET", "/v1/waiting"] = {"items": [row]}
    assert main(["waiting"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "[bold]x[/bold]" in shown
    gateway.failures = [NotFound(evil)]
    assert main(["waiting"]) == 4
    assert "\x1b" not in capsys.readouterr().err


def test_fsck_fails_when_something_is_broken(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.answers["GET", "/v1/fsck"] = {"service": "catalog", "checked": 3, "violations": []}
    assert main(["fsck"]) == 0
    broken = {"service": "catalog", "invariant": "D1", "where": "digits@1", "what": "no manifest"}
    gateway.answers["GET", "/v1/fsck"] = {"checked": 3, "violations": [broken]}
    assert main(["fsck"]) == 1
    assert "digits@1" in capsys.readouterr().out


def test_a_closed_pipe_is_quiet(gateway: Gateway) -> None:
    rows = [{"kind": "run", "name": "n" * 50, "state": "s", "reason": "r", "unblock": "u"}] * 5_000
    gateway.answers["GET", "/v1/waiting"] = {"items": rows}
    program = Path(sys.executable).with_name("millrace")
    done = subprocess.run(
        f"{program} waiting | head -1", shell=True, capture_output=True, text=True, check=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("text", ["prediction,label\np1,3\np2,4\n", '[{"prediction": "p1", "label": 3}]'])
def test_labels_come_from_csv_and_json(gateway: Gateway, tmp_path: Path, text: str) -> None:
    file = tmp_path / ("answers.csv" if text.startswith("p") else "answers.json")
    file.write_text(text)
    gateway.answers["POST", "/v1/labels/queues/q/answers"] = {"accepted": 1}
    assert main(["labels", "submit", "q", str(file)]) == 0


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"answers": 3}', "[" * 100_000])
def test_files_without_labels_are_wrong_usage(gateway: Gateway, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert main(["labels", "submit", "q", str(tmp_path / "x.json")]) == 2
    assert gateway.requests == []


@pytest.mark.servers
def test_the_data_commands_from_init_to_pull(
    lakeside: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "digits"
    (root / "train/0").mkdir(parents=True)
    (root / "train/0/a.png").write_bytes(b"a")
    where = ["--folder", str(root)]
    assert main(["data", "sync", *where]) == 4
    assert main(["data", "init", "digits", *where]) == 0
    assert main(["data", "status", *where]) == 0
    assert main(["data", "sync", "-m", "first", *where]) == 0
    capsys.readouterr()
    (root / "train/0/b.png").write_bytes(b"b")
    assert main(["data", "sync", "--dry-run", "--json", *where]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["added"] == ["train/0/b.png"]
    assert (planned["removed"], planned["changed"]) == ([], [])
    before = lake_objects(lakeside)
    assert main(["data", "sync", "-m", "second", "--json", *where]) == 0
    sent = {key: size for key, size in lake_objects(lakeside).items() if key not in before}
    # the pack's own index is no file's bytes, and so not in the plan
    assert planned["requests"] == len(sent) == 3
    assert 0 < planned["bytes"] <= sum(sent.values())
    assert json.loads(capsys.readouterr().out)["version"] == 2
    assert main(["data", "diff", "digits@1", "2"]) == 0
    assert capsys.readouterr().out == "+ train/0/b.png\n"
    assert main(["data", "ls", "digits", "--json"]) == 0
    assert [row["path"] for row in json.loads(capsys.readouterr().out)] == ["train/0/a.png", "train/0/b.png"]
    assert main(["data", "log", "digits"]) == 0
    assert "second" in capsys.readouterr().out
    target = tmp_path / "copy"
    assert main(["data", "pull", "digits@1", str(target)]) == 0
    assert (target / "train/0/a.png").read_bytes() == b"a"
    assert main(["data", "verify", "digits@1", str(target)]) == 0
    (target / "train/0/a.png").chmod(0o600)
    (target / "train/0/a.png").write_bytes(b"x")
    capsys.readouterr()
    assert main(["data", "verify", "digits@1", str(target)]) == 1
    assert capsys.readouterr().out == "damaged train/0/a.png\n"
    (root / "link").symlink_to("/etc/passwd")
    assert main(["data", "sync", *where]) == 2
    assert "'link'" in capsys.readouterr().err
    (root / "link").unlink()
    lakeside.failures = [Unavailable("away")]
    assert main(["data", "sync", *where]) == 0


def lake_objects(gateway: Gateway) -> dict[str, int]:
    async def listed() -> dict[str, int]:
        return {info.key: info.size async for info in gateway.lake.list("default/")}

    return asyncio.run(listed())
