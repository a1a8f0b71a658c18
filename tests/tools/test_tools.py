"""The project's own rules notice what they are there to notice."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import datetime\ndatetime.now()", "clock"),
        ("import time\ntime.time()", "clock"),
        ("m.nak()", "nack"),
        ("s(declare=True)", "declare"),
        ("b.publish(f'evt.{x}', b'')", "publish"),
        ("b.publish(subject='evt.a.b.v1.p')", "publish"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, rule: str) -> None:
    rules = load("ast_rules")
    monkeypatch.setattr(rules, "ROOT", tmp_path)
    path = tmp_path / "x.py"
    path.write_text(source)
    assert [line.split()[1] for line in rules.violations(path)] == [f"{rule}:"]


def test_what_is_allowed_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = load("ast_rules")
    monkeypatch.setattr(rules, "ROOT", tmp_path)
    path = tmp_path / "x.py"
    path.write_text("clock.now()\nm.nak(delay=1)\ns(declare=False)\nb.publish('tlm.progress.x', b'')")
    assert list(rules.violations(path)) == []


def test_a_breaking_schema_change_is_named() -> None:
    breaking = load("schemas").breaking
    old: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a"],
    }
    new = {"type": "object", "properties": {"a": {"type": "integer"}, "c": {"type": "string"}}, "required": ["a", "c"]}
    assert breaking(old, new) == [".c: became required", ".a: type string became integer", ".b: was removed"]
    assert breaking(old, {**old, "properties": {**old["properties"], "d": {"type": "string"}}}) == []


def test_the_dashboard_has_a_query_in_every_panel() -> None:
    board = json.loads((ROOT / "deploy/grafana/dashboards/millrace.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) >= 10
    assert all(target["expr"] and target["refId"] for panel in panels for target in panel["targets"])


def test_the_preflight_runs_without_any_package() -> None:
    script = ROOT / "libs/stack/src/millrace_stack/preflight.py"
    done = subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
