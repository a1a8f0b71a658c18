"""What the session may do, so that a page offers nothing that would be refused. The API decides; this only asks it."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.console.api import ConsoleApi
from millrace.auth import EVERY_PROJECT


@dataclass(frozen=True)
class Rights:
    """The actions that are granted in the project that is shown, and whether they are on the whole platform, too."""

    actions: frozenset[str]
    everywhere: bool

    def may(self, action: str) -> bool:
        """Return whether an action is granted in the project."""
        return action in self.actions

    def may_everywhere(self, action: str) -> bool:
        """Return whether an action is granted on what belongs to no project, as sites do."""
        return self.everywhere and action in self.actions


async def rights_of(api: ConsoleApi) -> Rights:
    """Return what the session may do."""
    me = await api.get("/v1/tokens/self")
    return Rights(frozenset(me["actions"]), me["project"] == EVERY_PROJECT)
