"""A component for tests, on the standard library only: counts epochs, reports as the SDK does, resumes, misbehaves.

Parameters: epochs, seconds (per epoch), exit (code at the end), fail_first (attempts that exit with 3 after epoch 1),
ignore_term, children (leave a grandchild behind), package (make one), gate (a path: wait after each epoch for it).
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

directory = pathlib.Path(os.environ["MILLRACE_RUN_DIR"])
params = json.loads((directory / "params.json").read_text())
facts = json.loads((directory / "run.json").read_text())
stopping: list[int] = []
signal.signal(signal.SIGTERM, signal.SIG_IGN if params.get("ignore_term") else lambda *_: stopping.append(1))

connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(os.environ["MILLRACE_SOCKET"])
lines = connection.makefile("rb")


def say(**message):
    connection.sendall(json.dumps(message).encode() + b"\n")
    answer = json.loads(lines.readline())
    if not answer["ok"]:
        print("refused:", answer["error"], flush=True)


def checkpoint(epoch):
    aside, target = directory / f".c{epoch}", directory / f"c{epoch}"
    aside.mkdir()
    (aside / "state.json").write_text(json.dumps({"epoch": epoch, "trail": trail}))
    aside.rename(target)
    say(op="checkpoint", epoch=epoch, path=str(target))


trail = []
done = 0
if (directory / "checkpoint" / "state.json").exists():
    state = json.loads((directory / "checkpoint" / "state.json").read_text())
    done, trail = state["epoch"], state["trail"]
print("env", json.dumps(sorted(os.environ)), flush=True)
print("data", os.environ["MILLRACE_INPUT_DATASET"], "from epoch", done, flush=True)
if params.get("children"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child", child.pid, flush=True)
say(op="stage", code=200, message="counting")
for epoch in range(done + 1, params.get("epochs", 3) + 1):
    time.sleep(params.get("seconds", 0))
    trail.append([epoch, facts["fence"]])
    checkpoint(epoch)
    say(op="metric", step=epoch, values={"loss": 1.0 / epoch, "odd": float("nan")})
    if facts["attempt"] <= params.get("fail_first", 0):
        print("boom: something is wrong", file=sys.stderr, flush=True)
        sys.exit(3)
    while params.get("gate") and not pathlib.Path(params["gate"]).exists() and not stopping:
        time.sleep(0.02)
    if stopping:
        sys.exit(75)
if params.get("package"):
    package = directory / "model"
    package.mkdir()
    (package / "model.onnx").write_bytes(json.dumps(trail).encode())
    (package / "package.json").write_text(json.dumps({"framework": "counting", "signature": {"inputs": []}}))
    (package / "golden.json").write_text("{}")
    (directory / "reference.json").write_text("{}")
    say(op="model", path=str(package), metrics={"accuracy": 0.5})
say(op="result", values={"epochs": params.get("epochs", 3), "text": "ignored"})
if params.get("exit"):
    print("the last words", file=sys.stderr, flush=True)
sys.exit(params.get("exit", 0))
