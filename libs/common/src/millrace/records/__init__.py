"""Typed records: what each file of a version is, what it refers to, and what is known of its contents.

`record` is plain Python; `table` (Arrow) and `stored` are imported from the modules of the same name.
"""

from millrace.records.record import TYPES, Record, Reference, metadata_text

__all__ = ["TYPES", "Record", "Reference", "metadata_text"]
