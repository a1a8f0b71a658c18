"""Every command that only looks, against the running platform, for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Platform

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

LOOKS = (
    "data ls",
    "data ls etl@1",
    "data log etl",
    "cache sites",
    "cache ls",
    "cache why etl@1 --site nfs-a",
    "runs ls",
    "runs show RUN",
    "models ls",
    "deploy ls",
    "policies ls",
    "policies executions train-etl",
    "events ls",
    "drift incidents",
    "labels queues",
    "dlq ls",
    "tokens ls",
    "waiting",
    "fsck",
    "queue",
    "operations",
    "gpus",
)


def run(platform: Platform, *arguments: str, token: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MILLRACE_URL": platform.urls["gateway"],
        "MILLRACE_TOKEN_FILE": str(token or platform.stack.layout.owner_token),
    }
    command = [str(Path(sys.executable).with_name("millrace")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", LOOKS)
def test_a_look_is_a_table_for_people_and_json_for_programs(
    platform: Platform, trained: dict[str, Any], command: str
) -> None:
    arguments = command.replace("RUN", trained["completed"]["data"]["run"]).split()
    people = run(platform, *arguments)
    assert people.returncode == 0, people.stderr
    assert "Traceback" not in people.stderr
    program = run(platform, *arguments, "--json")
    assert program.returncode == 0, program.stderr
    json.loads(program.stdout)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("frobnicate", 2),
        ("data log nothing", 4),
        ("models show nothing", 4),
        ("data init UPPER", 2),
        ("cache clear etl@99 --site nfs-a", 4),
        ("runs show 00000000-0000-0000-0000-000000000000", 4),
        ("events ls --limit 0", 2),
    ],
)
def test_what_cannot_be_is_said_with_its_exit_code(platform: Platform, command: str, code: int, tmp_path: Path) -> None:
    done = run(platform, *command.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not done.stdout.strip()
