"""What an Arrow IPC stream claims to become, read before Arrow believes it.

Every compressed buffer begins with the size it unpacks to, and Arrow allocates that much. A hostile manifest of a
hundred bytes may claim terabytes. This walks the stream's messages (the flatbuffers `Message` and `RecordBatch` of
the Arrow format) without allocating, and adds the claims up.
"""

from __future__ import annotations

import struct

from millrace.errors import Invalid

_CONTINUATION = 0xFFFFFFFF
_SCHEMA, _RECORD_BATCH = 1, 3
_I32, _U32, _U16, _I64 = (struct.Struct(code) for code in ("<i", "<I", "<H", "<q"))


def claimed(data: bytes) -> tuple[int, int]:
    """Return (rows, bytes) that the record batches of an IPC stream claim to hold once unpacked.

    Raises:
        Invalid: not an IPC stream, or with messages other than a schema and record batches.
    """
    rows = total = at = 0
    try:
        while at < len(data):
            if _U32.unpack_from(data, at)[0] != _CONTINUATION:
                raise Invalid("not an Arrow IPC stream")
            length = _I32.unpack_from(data, at + 4)[0]
            if length == 0:
                break
            body = at + 8 + length
            kind, header, body_length = _message(data, at + 8)
            if length < 0 or body_length < 0 or body + body_length > len(data):
                raise Invalid("an Arrow message is cut short")
            if kind == _RECORD_BATCH:
                batch_rows, batch_bytes = _batch(data, header, body, body_length)
                rows, total = rows + batch_rows, total + batch_bytes
            elif kind != _SCHEMA or at:
                raise Invalid(f"an Arrow message of kind {kind} has no place in a manifest")
            at = body + body_length
    except (struct.error, IndexError):
        raise Invalid("not an Arrow IPC stream: cut short") from None
    return rows, total


def _field(data: bytes, table: int, slot: int) -> int | None:
    """Return the position of a field of a flatbuffers table, or None where it is left out."""
    vtable = table - _I32.unpack_from(data, table)[0]
    place = 4 + 2 * slot
    if vtable < 0 or place >= _U16.unpack_from(data, vtable)[0]:
        return None
    offset: int = _U16.unpack_from(data, vtable + place)[0]
    return table + offset if offset else None


def _message(data: bytes, start: int) -> tuple[int, int, int]:
    table = start + _U32.unpack_from(data, start)[0]
    kind, header, length = _field(data, table, 1), _field(data, table, 2), _field(data, table, 3)
    if kind is None or header is None:
        raise Invalid("an Arrow message without a header")
    return (
        data[kind],
        header + _U32.unpack_from(data, header)[0],
        0 if length is None else _I64.unpack_from(data, length)[0],
    )


def _batch(data: bytes, table: int, body: int, body_length: int) -> tuple[int, int]:
    length, buffers = _field(data, table, 0), _field(data, table, 2)
    rows: int = 0 if length is None else _I64.unpack_from(data, length)[0]
    if rows < 0:
        raise Invalid("an Arrow batch with a negative number of rows")
    if buffers is None:
        return rows, 0
    compressed = _field(data, table, 3) is not None
    vector = buffers + _U32.unpack_from(data, buffers)[0]
    count: int = _U32.unpack_from(data, vector)[0]
    if count * 16 > len(data):
        raise Invalid("an Arrow batch with more buffers than bytes")
    total = 0
    for index in range(count):
        offset, size = struct.unpack_from("<qq", data, vector + 4 + 16 * index)
        if offset < 0 or size < 0 or offset + size > body_length:
            raise Invalid("an Arrow buffer lies outside its message")
        total += _unpacked(data, body + offset, size) if compressed else size
    return rows, total


def _unpacked(data: bytes, at: int, size: int) -> int:
    if size < 8:
        return 0
    said: int = _I64.unpack_from(data, at)[0]
    if said < -1:
        raise Invalid("an Arrow buffer with a negative size")
    return size - 8 if said == -1 else said
