"""Jobs and nodes as documents, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trainer.domain.devices import Device, Node, Slot
from trainer.domain.jobs import Artifact, CacheLease, Checkpoint, Grant, Job, Process, State

SCHEMA_VERSION = 1
_PARTS: dict[str, type] = {"lease": CacheLease, "checkpoint": Checkpoint}


def job_row(job: Job) -> dict[str, Any]:
    """Return the document of a job."""
    row = asdict(job)
    row["_id"] = row.pop("run")
    row["state"] = str(job.state)
    row["schema_version"] = SCHEMA_VERSION
    row["over"] = job.over
    return row


def job_from(row: dict[str, Any]) -> Job:
    """Return the job of a document."""
    fields = {name: value for name, value in row.items() if name not in {"_id", "schema_version", "over"}}
    for name, part in _PARTS.items():
        fields[name] = part(**fields[name]) if fields.get(name) else None
    fields["grant"] = _grant(fields.get("grant"))
    fields["artifact"] = _artifact(fields.get("artifact"))
    fields["state"] = State(fields["state"])
    fields["event"] = bytes(fields["event"])
    return Job(run=row["_id"], **fields)


def _grant(row: dict[str, Any] | None) -> Grant | None:
    if row is None:
        return None
    process = Process(**row["process"]) if row["process"] else None
    return Grant(row["node"], row["token"], tuple(row["devices"]), row["fence"], process)


def _artifact(row: dict[str, Any] | None) -> Artifact | None:
    return None if row is None else Artifact(**{**row, "files": tuple(row["files"])})


def node_row(node: Node) -> dict[str, Any]:
    """Return the document of a node. Nodes belong to the platform, not to a project."""
    return {
        "_id": node.name,
        "project": "*",
        "revision": node.revision,
        "schema_version": SCHEMA_VERSION,
        "token": node.token,
        "slots": [{"device": asdict(slot.device), "run": slot.run, "fence": slot.fence} for slot in node.slots],
    }


def node_from(row: dict[str, Any]) -> Node:
    """Return the node of a document."""
    slots = tuple(Slot(Device(**slot["device"]), slot["run"], slot["fence"]) for slot in row["slots"])
    return Node(row["_id"], row["token"], slots, row["revision"])
