"""For every test of the workspace: fixtures that start real servers, and an account of what was skipped.

A skip is a check that did not run. Each must match a line of `tests/reviewed_skips.txt`, else the run fails.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = ["millrace_stack.pytest_plugin"]

REVIEWED = Path(__file__).parent / "tests" / "reviewed_skips.txt"

# A busy machine must not turn a property red: no example is timed, `timeout` in pyproject.toml bounds each test.
settings.register_profile("millrace", deadline=None)
settings.load_profile("millrace")


TOGETHER = ("tests/e2e/", "tests/integrations/", "libs/stack/tests/test_stack.py")
"""What shares a whole running stack and therefore runs on one worker; everything else is spread test by test."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests of one stack together; xdist's own `loadgroup` rewrites node ids, which pytest 9.2 does not allow."""
    from xdist.scheduler import LoadScopeScheduling

    class ByStack(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return next((prefix for prefix in TOGETHER if nodeid.startswith(prefix)), nodeid)

    return ByStack(config, log)


def _patterns() -> list[re.Pattern[str]]:
    lines = REVIEWED.read_text(encoding="utf-8").splitlines()
    return [re.compile(line) for line in lines if line.strip() and not line.startswith("#")]


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each skip with its reason; name those that nobody reviewed."""
    patterns = _patterns()
    skipped = [(report.nodeid, _reason(report)) for report in terminalreporter.getreports("skipped")]
    for node, reason in skipped:
        mark = "" if any(pattern.search(reason) for pattern in patterns) else "  <- not on tests/reviewed_skips.txt"
        terminalreporter.write_line(f"skipped: {node}: {reason}{mark}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a skip is not on the reviewed list."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    patterns = _patterns()
    reasons = [_reason(report) for report in reporter.getreports("skipped")]
    if any(not any(pattern.search(reason) for pattern in patterns) for reason in reasons):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
