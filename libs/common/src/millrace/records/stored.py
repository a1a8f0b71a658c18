"""Tables of records in the object store: written once under the digest of their bytes, verified when read."""

from __future__ import annotations

import asyncio

from millrace.datasets.keys import records_key
from millrace.errors import Invalid, NotFound
from millrace.objects.port import ObjectStore
from millrace.records.table import MAX_TABLE, RecordTable


async def save_records(store: ObjectStore, project: str, table: RecordTable) -> str:
    """Store a table and return its id; "already there" is success.

    Raises:
        Invalid: it is larger than `MAX_TABLE`.
    """
    data = await asyncio.to_thread(table.to_bytes)
    if len(data) > MAX_TABLE:
        raise Invalid(f"a table of records of {len(data)} bytes exceeds {MAX_TABLE}")
    await store.put(records_key(project, table.id), data, create_only=True)
    return table.id


async def load_records(store: ObjectStore, project: str, records: str) -> RecordTable:
    """Return a stored table, verified.

    Raises:
        NotFound, Corrupt, Invalid: what their names say.
    """
    key = records_key(project, records)
    info = await store.head(key)
    if info is None:
        raise NotFound(f"no such object: {key}", key=key)
    if info.size > MAX_TABLE:
        raise Invalid(f"object {key} of {info.size} bytes exceeds {MAX_TABLE}")
    data = await store.get(key)
    return await asyncio.to_thread(RecordTable.parse, data, expect=records)
