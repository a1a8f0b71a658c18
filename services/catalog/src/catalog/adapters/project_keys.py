"""The catalog's own way to projects' keys: its documents, and the master key."""

from __future__ import annotations

from catalog.application.encryption import KeyBox
from catalog.application.ports import Documents
from millrace.clock import Clock
from millrace.sealing import KeyMemory, Known


def own_keys(documents: Documents, box: KeyBox, clock: Clock) -> KeyMemory:
    """Return the key ring of the catalog's process."""

    async def ask(project: str) -> Known:
        found = await documents.encryptions.get(project)
        key = box.unwrap(found) if found is not None and found.sealed else None
        return Known(key, settled=found is not None)

    return KeyMemory(ask, clock)
