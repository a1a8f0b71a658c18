"""Golden JSON Schemas of every event, and the AsyncAPI 3 document made from them.

    python tools/schemas.py            write libs/common/schemas/
    python tools/schemas.py --check    fail if they are not current, or if a change breaks what is published

A published schema may gain optional fields. Anything else needs a new version and an upcaster.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from millrace.bus.topology import CONSUMERS, STREAMS
from millrace.events import EVENT_CLASSES, Event

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "libs" / "common" / "schemas"


def documents() -> dict[str, str]:
    """Return file name → text of every golden file."""
    schemas = {
        f"{event_type}.v{version}.json": Event[cls].model_json_schema()  # type: ignore[valid-type]
        for (event_type, version), cls in sorted(EVENT_CLASSES.items())
    }
    files = {name: _text(schema) for name, schema in schemas.items()}
    files["asyncapi.json"] = _text(asyncapi())
    return files


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document: one channel per event type, with its stream and consumers."""
    channels, operations, messages = {}, {}, {}
    for (event_type, version), cls in sorted(EVENT_CLASSES.items()):
        name = f"{event_type}.v{version}"
        key = name.replace(".", "_")
        messages[key] = {
            "name": event_type,
            "title": cls.__name__,
            "summary": (cls.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/cloudevents+json",
            "payload": {"$ref": f"./{name}.json"},
        }
        channels[key] = {
            "address": f"evt.{name}.{{project}}",
            "parameters": {"project": {"description": "the tenancy the event belongs to"}},
            "messages": {key: {"$ref": f"#/components/messages/{key}"}},
        }
        operations[f"publish_{key}"] = {"action": "send", "channel": {"$ref": f"#/channels/{key}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millrace events",
            "version": "0.1.0",
            "description": "CloudEvents 1.0 in structured JSON over NATS JetStream. Facts are past tense.",
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
        "x-streams": sorted(STREAMS),
        "x-consumers": sorted(CONSUMERS),
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def breaking(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """Return what in `new` a reader or writer of `old` would stumble over (removed, retyped, newly required)."""
    found = []
    if old.get("type") != new.get("type"):
        found.append(f"{where or '.'}: type {old.get('type')} became {new.get('type')}")
    added = sorted(set(new.get("required", [])) - set(old.get("required", [])))
    found += [f"{where}.{name}: became required" for name in added]
    for name, schema in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            found.append(f"{where}.{name}: was removed")
        else:
            found += breaking(schema, new["properties"][name], f"{where}.{name}")
    for name, schema in old.get("$defs", {}).items():
        if name in new.get("$defs", {}):
            found += breaking(schema, new["$defs"][name], f"{where}#{name}")
    return found


def check() -> int:
    """Compare the golden files with the code; return 1 if they differ."""
    status, current = 0, documents()
    on_disk = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    for name in sorted(current.keys() | on_disk.keys()):
        if current.get(name) == on_disk.get(name):
            continue
        status = 1
        problems: list[str] = []
        if name in current and name in on_disk and name != "asyncapi.json":
            problems = breaking(json.loads(on_disk[name]), json.loads(current[name]))
        elif name not in current:
            problems = ["a published schema was removed"]
        sys.stdout.write(f"schema {name} is not current; run `make schemas`\n")
        for problem in problems:
            sys.stdout.write(f"  BREAKING {problem}: needs a new version and an upcaster\n")
    return status


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        return check()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
