"""Whether a project's datasets are sealed in the lake: settled once, before there is anything to be sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from catalog.domain.entity import Entity


@dataclass(frozen=True, kw_only=True)
class Encryption(Entity):
    """What is settled for a project; its id is the project's. There is none before it is settled.

    `key_id` tells keys apart and is empty where objects lie in clear; `wrapped` is the project's key, sealed with the
    master key whose id is `master`.
    """

    key_id: str = ""
    wrapped: str = field(default="", repr=False)
    master: str = ""
    settled_by: str
    settled_at: datetime

    @property
    def sealed(self) -> bool:
        """Return whether the project is encrypted."""
        return bool(self.key_id)
