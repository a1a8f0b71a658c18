"""Failpoints: silent unless armed, exact in their hits, remembered over restarts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from millrace.errors import Invalid
from millrace.failpoints import FLOWS, known, parse


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"import asyncio\nfrom millrace.failpoints import fp, fp_sync\n{program}"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_table_names_every_flow_of_the_design() -> None:
    assert sum(len(points) for points in FLOWS.values()) == 67
    assert known("commit.D6.after")
    assert not known("commit.D99.after")
    assert not known("commit.D6")


def test_an_unknown_point_or_action_is_refused() -> None:
    for wrong in ("commit.D99.after=kill", "commit.D6.after=explode", "x"):
        with pytest.raises(Invalid):
            parse(wrong)


def test_nothing_happens_unless_armed() -> None:
    assert run("asyncio.run(fp('commit.D6.after')); print('on')").stdout == "on\n"


def test_kill_is_at_the_hit_named_and_only_once_over_restarts(tmp_path: Path) -> None:
    program = "for n in range(3): print(n, flush=True); fp_sync('train.T7.after')"
    environment = {"MILLRACE_FAILPOINTS": "train.T7.after=kill@2", "MILLRACE_FAILPOINTS_STATE": str(tmp_path)}
    first = run(program, **environment)
    assert first.returncode == -9
    assert first.stdout == "0\n1\n"
    second = run(program, **environment)
    assert second.returncode == 0
    assert second.stdout == "0\n1\n2\n"


def test_raise_and_enospc_break_like_the_real_thing() -> None:
    assert "Unavailable" in run("asyncio.run(fp('fill.C3.during'))", MILLRACE_FAILPOINTS="fill.C3.during=raise").stderr
    assert "No space left" in run("fp_sync('fill.C3.during')", MILLRACE_FAILPOINTS="fill.C3.during=enospc").stderr
