"""Dead letters: kept until somebody looks, and sent again to the one consumer that refused them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.ports import Documents, Unit
from catalog.domain.records import DeadLetter
from catalog.errors import DeadLetterNotFound
from millrace.clock import Clock

NO_PROJECT = "-"
"""Where a dead letter belongs whose bytes name no project."""


async def keep_dead_letter(letter: DeadLetter, *, uow: Unit) -> None:
    """Keep a dead letter; its copies are the same one. One that came back after a replay is dead again."""
    known = await uow.dead_letters.get(letter.id)
    if known is None:
        await uow.dead_letters.add(letter)
    elif known.state == "replayed":
        await uow.dead_letters.save(replace(letter, revision=known.revision, replays=known.replays))


async def find_dead_letter(letter_id: str, *, documents: Documents) -> DeadLetter:
    """Return a dead letter.

    Raises:
        DeadLetterNotFound: there is none of that id.
    """
    letter = await documents.dead_letters.get(letter_id)
    if letter is None:
        raise DeadLetterNotFound(f"no dead letter {letter_id[:64]!r}")
    return letter


async def replay_dead_letter(letter_id: str, caller: Caller, *, uow: Unit, clock: Clock) -> dict[str, Any]:
    """Send the original bytes to the consumer that refused them, and to no other."""
    letter = await find_dead_letter(letter_id, documents=uow)
    uow.replay(letter.durable, letter.raw, original_subject=letter.subject)
    letter = await uow.dead_letters.save(
        replace(
            letter,
            state="replayed",
            replays=letter.replays + 1,
            replayed_at=clock.now(),
            replayed_by=caller.principal,
        )
    )
    resource = f"dead-letter:{letter_id}"
    uow.audit(caller.principal, "dlq.replay", resource, caller.project, {"durable": letter.durable})
    return views.dead_letter(letter)
