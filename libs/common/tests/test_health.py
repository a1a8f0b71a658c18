"""The container health check."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from millrace.health import main


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
        self.wfile.write(b'{"reasons": {"mongo": "away"}}')

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_ready_is_zero_and_waiting_is_one_with_the_reason(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"http://127.0.0.1:{port}/readyz"]) == 0
    assert main([f"http://127.0.0.1:{port}/other"]) == 1
    assert "away" in capsys.readouterr().err


def test_nobody_there_is_one_and_another_host_is_refused() -> None:
    assert main(["http://127.0.0.1:1/readyz"]) == 1
    assert main(["http://example.org/"]) == 2
