"""Rules that neither ruff nor import-linter can express. Each names the reason it exists.

clock      no `datetime.now()`, `datetime.utcnow()` or `time.time()` outside `millrace.clock`: tests must own time
nack       no `nack()` or `nak()` without a delay: a failing handler would burn its deliveries in milliseconds
declare    no `declare=True`: FastStream would overwrite the provisioner's streams
wait_for   no `asyncio.wait_for()`: on Python 3.11 it loses cancellations; `asyncio.timeout()` does not
publish    nothing publishes on `evt.` but the relay (and the dead-letter replay): events leave with their state
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("libs/*/src/**/*.py", "services/*/src/**/*.py")
WALL_CLOCK = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("time", "time"), ("time", "time_ns")}
CLOCK = "libs/common/src/millrace/clock.py"
MAY_PUBLISH = (
    "libs/common/src/millrace/bus/",
    "libs/common/src/millrace/outbox/",
    "libs/common/src/millrace/testing/",
)


def _call_name(node: ast.Call) -> tuple[str, str]:
    if isinstance(node.func, ast.Attribute):
        owner = node.func.value
        return (owner.id if isinstance(owner, ast.Name) else "", node.func.attr)
    return ("", node.func.id if isinstance(node.func, ast.Name) else "")


def violations(path: Path) -> Iterator[str]:
    """Yield `file:line rule` for each breach in one file."""
    relative = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        owner, name = _call_name(node)
        where = f"{relative}:{node.lineno}"
        if (owner, name) in WALL_CLOCK and relative != CLOCK:
            yield f"{where} clock: {owner}.{name}() outside millrace.clock"
        if name in {"nack", "nak"} and not node.args and not any(k.arg == "delay" for k in node.keywords):
            yield f"{where} nack: {name}() without a delay"
        if (owner, name) == ("asyncio", "wait_for"):
            yield f"{where} wait_for: asyncio.wait_for() may lose a cancellation"
        for keyword in node.keywords:
            if keyword.arg == "declare" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True:
                yield f"{where} declare: declare=True"
        if name in {"publish", "publish_async"} and not relative.startswith(MAY_PUBLISH) and _to_events(node):
            yield f"{where} publish: an event published outside the relay"


def _to_events(node: ast.Call) -> bool:
    first = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "subject"), None)
    if isinstance(first, ast.JoinedStr) and first.values:
        first = first.values[0]
    return isinstance(first, ast.Constant) and str(first.value).startswith("evt.")


def main() -> int:
    """Check every source file; print the breaches and return 1 if there are any."""
    found = [line for pattern in SOURCES for path in sorted(ROOT.glob(pattern)) for line in violations(path)]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
