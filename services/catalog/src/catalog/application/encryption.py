"""Encryption of a project's datasets: switched on before its first dataset, or never.

Only so is there no time at which some objects lie in clear: signed URLs that were given out, and pushes of ingest that
are under way, cannot be counted. What comes first, the encryption or the first dataset, writes the project's one
document.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from catalog.application import views
from catalog.application.caller import Caller, Reply
from catalog.application.ports import Documents, Unit
from catalog.domain.encryption import Encryption
from catalog.errors import AlreadyInClear, KeyLocked, NotSealedSo
from millrace.clock import Clock
from millrace.errors import NotFound
from millrace.sealing import ProjectKey

PAGE = 500
HINT = "encrypt a fresh project, then bring the data there by `millrace data export` and `sync`"


class KeyBox(Protocol):
    """Wraps projects' keys with the installation's master key."""

    def wrap(self, key: ProjectKey) -> tuple[str, str]:
        """Return a key as it may be stored, and the id of the master key.

        Raises:
            KeyLocked: there is no master key.
        """

    def unwrap(self, stored: Encryption) -> ProjectKey:
        """Return a project's key.

        Raises:
            KeyLocked: the master key that it was wrapped with is not there, or it is damaged.
        """

    def stale(self, stored: Encryption) -> bool:
        """Return whether a key is wrapped with another master key than the first of those that there are."""


async def encrypt_project(caller: Caller, *, keys: KeyBox, uow: Unit, clock: Clock) -> Reply:
    """Give the project a key, with which everything that its datasets consist of is sealed from now on.

    Raises:
        AlreadyInClear: the project has, or had, a dataset.
        KeyLocked: the installation has no master key.
    """
    known = await uow.encryptions.get(caller.project)
    if known is not None and known.sealed:
        return Reply(200, views.encryption(caller.project, known))
    if known is not None or await uow.datasets.count({"project": caller.project}):
        raise AlreadyInClear(f"datasets of project {caller.project} lie in clear already", hint=HINT)
    key = ProjectKey.new(caller.project)
    wrapped, master = keys.wrap(key)
    made = Encryption(
        id=caller.project,
        project=caller.project,
        key_id=key.id,
        wrapped=wrapped,
        master=master,
        settled_by=caller.principal,
        settled_at=clock.now(),
    )
    await uow.encryptions.add(made)
    uow.audit(caller.principal, "project.encrypt", f"project:{caller.project}", caller.project, {"key": key.id})
    return Reply(201, views.encryption(caller.project, made))


async def settle(caller: Caller, *, uow: Unit, clock: Clock) -> None:
    """Write down, with a project's first dataset, that it is not encrypted, if it is not."""
    if await uow.encryptions.get(caller.project) is None:
        made = Encryption(
            id=caller.project, project=caller.project, settled_by=caller.principal, settled_at=clock.now()
        )
        await uow.encryptions.add(made)


async def hand_out(caller: Caller, *, keys: KeyBox, uow: Unit) -> dict[str, Any]:
    """Return the project's key to a principal that may have it, and write down that it did.

    Raises:
        NotFound: the project is not encrypted.
        KeyLocked: the key cannot be unwrapped.
    """
    known = await uow.encryptions.get(caller.project)
    if known is None or not known.sealed:
        raise NotFound(f"project {caller.project} is not encrypted")
    key = keys.unwrap(known)
    uow.audit(caller.principal, "project.key", f"project:{caller.project}", caller.project, {"key": key.id})
    return {"project": caller.project, "key_id": key.id, "key": key.text}


async def sealed_with(project: str, *, documents: Documents) -> str | None:
    """Return the id of the key that a project's objects are sealed with, None where they lie in clear."""
    known = await documents.encryptions.get(project)
    return known.key_id if known is not None and known.sealed else None


async def check_sealed(project: str, claimed: str | None, *, documents: Documents) -> str | None:
    """Return the id of the project's key if it is the one that a client says it seals with, or neither is one.

    Raises:
        NotSealedSo: it would send plain bytes to an encrypted project, or has another key.
    """
    wanted = await sealed_with(project, documents=documents)
    if claimed != wanted:
        raise NotSealedSo(
            f"project {project} is encrypted, and this client does not seal"
            if claimed is None
            else f"what was sealed with key {claimed} does not belong in project {project}",
            hint="a client of this version or newer fetches the project's key by itself",
        )
    return wanted


async def rewrap(keys: KeyBox, *, uow: Unit) -> list[str]:
    """Wrap every key with the first master key; return the projects whose keys cannot be unwrapped."""
    locked: list[str] = []
    after = None
    while page := await uow.encryptions.find({}, after=after, limit=PAGE):
        for stored in page:
            try:
                await _rewrap(stored, keys, uow)
            except KeyLocked:
                locked.append(stored.project)
        after = page[-1].id
    return locked


async def _rewrap(stored: Encryption, keys: KeyBox, uow: Unit) -> None:
    if not stored.sealed:
        return
    key = keys.unwrap(stored)
    if keys.stale(stored):
        wrapped, master = keys.wrap(key)
        await uow.encryptions.save(replace(stored, wrapped=wrapped, master=master))
        uow.audit("installation", "project.rewrap", f"project:{stored.project}", stored.project, {"key": key.id})
