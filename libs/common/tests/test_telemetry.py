"""Log lines: JSON, numbered by trace, without secrets."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

from millrace.auth import mint
from millrace.telemetry.logs import REDACTED, redact


def test_secrets_are_redacted_by_name_and_by_form() -> None:
    token = mint().text
    event = redact(
        None,
        "info",
        {
            "event": f"got {token} here",
            "authorization": "Bearer x",
            "nested": {"password": "hunter2", "ok": "fine"},
            "list": [token],
            "uri": "mongodb://user:pass@host/db",
            "token": 7,
        },
    )
    text = json.dumps(event)
    assert token not in text
    assert "hunter2" not in text
    assert "user:pass" not in text
    assert event["authorization"] == REDACTED
    assert event["nested"]["ok"] == "fine"
    assert event["token"] == 7


def test_a_line_carries_service_time_and_trace_and_cannot_be_forged_by_a_newline() -> None:
    program = """
        import logging, structlog
        from millrace.telemetry import configure_logs, configure_traces, span
        configure_logs("demo"); configure_traces("demo", None)
        with span("work", parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
            structlog.get_logger().info("hello\\n{\\"forged\\": 1}", run="r1")
            logging.getLogger("other").warning("plain %s", "text")
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    first, second = (json.loads(line) for line in out.stdout.splitlines())
    assert first["service"] == "demo"
    assert first["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert first["run"] == "r1"
    assert first["ts"].endswith("Z")
    assert second["event"] == "plain text"
    assert second["trace_id"] == first["trace_id"]
