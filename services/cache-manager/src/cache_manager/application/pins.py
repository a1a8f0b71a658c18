"""Pins: leases without end, by name, set and removed by those who may."""

from __future__ import annotations

from dataclasses import dataclass

from cache_manager.application.ports import Unit
from cache_manager.domain.entry import Entry, Pin
from cache_manager.errors import EntryNotFound
from millrace.clock import Clock
from millrace.errors import Conflict


@dataclass(frozen=True)
class PinEntry:
    """The wish that an entry stays whatever happens, until the pin of this name is removed."""

    entry: str
    name: str
    by: str
    reason: str = ""


async def pin_entry(cmd: PinEntry, *, uow: Unit, clock: Clock) -> Entry:
    """Set a pin; one of the same name is replaced. A copy that is still being fetched may be pinned, too.

    Raises:
        Conflict: the entry is on its way out, or not wanted.
        EntryNotFound: there is no such entry.
    """
    pinned = await uow.entries.pin(cmd.entry, cmd.name, Pin(cmd.by, cmd.reason, clock.now()))
    entry = await uow.entries.get(cmd.entry)
    if entry is None:
        raise EntryNotFound("no such cache entry")
    if not pinned:
        raise Conflict(f"{entry.id} is on its way out", hint="ask for it again, then pin it", state=entry.state.value)
    return entry


async def unpin_entry(entry_id: str, name: str, *, uow: Unit) -> Entry:
    """Remove a pin.

    Raises:
        EntryNotFound: there is no such entry, or no such pin on it.
    """
    if not await uow.entries.unpin(entry_id, name):
        raise EntryNotFound(f"no pin {name} on this entry")
    entry = await uow.entries.get(entry_id)
    if entry is None:
        raise EntryNotFound("no such cache entry")
    return entry
