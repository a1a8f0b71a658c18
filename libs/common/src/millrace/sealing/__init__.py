"""Datasets sealed on their way into the lake: whoever operates the store sees neither bytes nor names.

`SealedStore` is an `ObjectStore` over another one, so nothing above the port knows of it. An encrypted project has one
key; `KeyRing` says which. Decision 0018 has the reasons.
"""

from millrace.sealing.catalog_keys import catalog_keys
from millrace.sealing.key import ProjectKey
from millrace.sealing.ring import KeyMemory, KeyRing, Known
from millrace.sealing.store import SealedStore

__all__ = ["KeyMemory", "KeyRing", "Known", "ProjectKey", "SealedStore", "catalog_keys"]
