"""Every query of the Grafana dashboard, asked of a real Prometheus that scrapes the running platform."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Platform, until

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
NEED_A_MODEL = {"Predictions", "Prediction time, p95", "Windows"}
"""Panels that have data only once a model serves; their queries must be valid all the same."""


def queries() -> list[tuple[str, str]]:
    specification = importlib.util.spec_from_file_location("dashboard", ROOT / "tools" / "dashboard.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["dashboard"] = module
    specification.loader.exec_module(module)
    found: list[tuple[str, str]] = module.queries()
    return found


def test_every_panel_has_data(platform: Platform, trained: dict[str, Any]) -> None:
    if "prometheus" not in platform.urls:
        pytest.skip("no Prometheus binary on this machine")
    address = f"{platform.urls['prometheus']}/api/v1/query"

    def ask(expression: str) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(address, params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer

    for title, expression in queries():
        if title in NEED_A_MODEL:
            ask(expression)
            continue

        def look(expression: str = expression) -> list[Any] | None:
            result: list[Any] = ask(expression)["data"]["result"]
            return result or None

        until(f"data for panel {title!r}", look, 60)
