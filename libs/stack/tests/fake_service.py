"""A service of the tests: answers /readyz, starts one child of its own, and writes down what it was told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

Path("told.json").write_text(json.dumps(dict(os.environ)))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
Path("child").write_text(str(child.pid))
port = next(int(value) for name, value in os.environ.items() if name == os.environ["FAKE_PORT_VARIABLE"])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        waiting = Path("wait-for").exists()
        self.send_response(503 if waiting else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"reasons": {"bus": "no broker"} if waiting else {}}).encode())

    def log_message(self, *arguments: object) -> None:
        pass


sys.stdout.write('{"event": "service started"}\n')
sys.stdout.flush()
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
