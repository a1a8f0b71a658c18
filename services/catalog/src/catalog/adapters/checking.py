"""Checks on a version in the lake: lists judged here, tables fetched and judged in a process of their own."""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from pathlib import Path

from catalog.errors import ObjectMissing
from millrace.checks import Checks, Failure
from millrace.checks.apart import judge_apart
from millrace.checks.document import Check, TableRule
from millrace.checks.evaluate import check_listing, failures
from millrace.checks.verdict import Verdict
from millrace.datasets.fetch import read_part
from millrace.datasets.limits import MIB
from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.stored import load_manifest
from millrace.errors import Corrupt, NotFound
from millrace.objects import ObjectStore
from millrace.records.stored import load_records

MAX_TABLE = 2 * 1024 * MIB
"""Largest table in bytes that is fetched for a check."""
AT_ONCE = 2
REMEMBERED = 32


class LakeChecker:
    """`Checker` on one bucket. A verdict is remembered for a while: a client that lost patience asks again."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, ...], asyncio.Task[list[Failure]]] = OrderedDict()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def failures(self, project: str, manifest: str, records: str | None, checks: Checks) -> list[Failure]:
        """Return what a version fails; askers of one thing share one answer, and none can cancel it for the others."""
        key = (project, manifest, records or "", checks.digest)
        task = self._known.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._failures(project, manifest, records, checks))
            self._known[key] = task
            while len(self._known) > REMEMBERED and next(iter(self._known.values())).done():
                self._known.popitem(last=False)
        return await asyncio.shield(task)

    async def _failures(self, project: str, manifest: str, records: str | None, checks: Checks) -> list[Failure]:
        try:
            loaded = await load_manifest(self._store, project, manifest)
            table = None if records is None else await load_records(self._store, project, records)
        except NotFound as error:
            raise ObjectMissing(error.message, missing=[manifest]) from None
        found = await asyncio.to_thread(check_listing, checks, loaded, table)
        for check in checks.checks:
            if check.table is not None and (row := loaded.find(check.table.file)) is not None:
                found += await self._table(project, loaded, loaded.entry(row), check, check.table)
        return found

    async def _table(
        self, project: str, manifest: Manifest, entry: Entry, check: Check, rule: TableRule
    ) -> list[Failure]:
        if entry.size > MAX_TABLE:
            return [Failure(check.name, f"{rule.file} has {entry.size} bytes; at most {MAX_TABLE} are looked at")]
        async with self._room:
            with tempfile.TemporaryDirectory(prefix="millrace-check-") as folder:
                path = Path(folder) / "table"
                try:
                    await self._fetch(project, manifest, entry, path)
                except Corrupt as error:
                    return [Failure(check.name, error.message)]
                verdict: Verdict = await judge_apart(rule, path)
        return failures(check, verdict)

    async def _fetch(self, project: str, manifest: Manifest, entry: Entry, path: Path) -> None:
        with path.open("wb") as file:
            async for piece in read_part(self._store, project, manifest, entry, start=0, length=entry.size):
                await asyncio.to_thread(file.write, piece)
