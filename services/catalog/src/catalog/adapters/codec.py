"""Entities as MongoDB documents and back.

Free dictionaries (params, metrics, lineage …) are stored as lists of `{k, v}`: their keys hold dots and dollars, and
none may ever become a field name or an operator.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from catalog.domain.entity import Entity

E = TypeVar("E", bound=Entity)
SCHEMA_VERSION = 1


def _is_dict(annotation: Any) -> bool:
    return annotation is dict or typing.get_origin(annotation) is dict


class Codec(Generic[E]):
    """Translates one kind of entity. `plain` leaves dictionaries as they are (rows whose shape the kernel owns)."""

    def __init__(self, kind: type[E], *, plain: bool = False) -> None:
        self._adapter = TypeAdapter(kind)
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        self._free = [] if plain else [name for name in names if _is_dict(hints[name])]

    def encode(self, entity: E) -> dict[str, Any]:
        """Return the document of an entity."""
        document: dict[str, Any] = self._adapter.dump_python(entity)
        document["_id"] = document.pop("id")
        document["schema_version"] = SCHEMA_VERSION
        for name in self._free:
            document[name] = [{"k": key, "v": value} for key, value in document[name].items()]
        return document

    def decode(self, document: dict[str, Any]) -> E:
        """Return the entity of a document; fields that are not ours are left out."""
        known = dict(document)
        known["id"] = known.pop("_id")
        for name in self._free:
            known[name] = {pair["k"]: pair["v"] for pair in known.get(name) or []}
        return self._adapter.validate_python(known)


def path(name: str) -> str:
    """Return the stored name of a field."""
    return "_id" if name == "id" else name
