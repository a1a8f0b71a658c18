"""A table as an Arrow IPC stream that is named by the digest of its bytes: written always alike, read with mistrust."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
from blake3 import blake3

from millrace.errors import Corrupt, Invalid

BATCH_ROWS = 65_536


def write_table(table: Any) -> bytes:
    """Return the stored form, zstd inside; equal rows give equal bytes under one Arrow version."""
    sink = pa.BufferOutputStream()
    _write(table, sink)
    return bytes(sink.getvalue())


def digest_of(table: Any) -> str:
    """Return the BLAKE3 (hex) of what `write_table` would return, without ever holding it."""
    hashed = _Hashed()
    with pa.PythonFile(hashed, mode="w") as sink:
        _write(table, sink)
    return hashed.digest.hexdigest()


class _Hashed(io.RawIOBase):
    """Forgets what is written to it but for its digest."""

    def __init__(self) -> None:
        self.digest = blake3()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)


def _write(table: Any, sink: Any) -> None:
    """Write in one piece, cut anew: cuts that the table has from before must not show in the bytes."""
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=3), use_threads=False)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=BATCH_ROWS)


def check_digest_of(data: bytes, expect: str | None, what: str) -> None:
    """Raise Corrupt unless `data` has the digest it was asked for by, if there is one."""
    if expect is not None and blake3(data).hexdigest() != expect:
        raise Corrupt(f"{what} {expect}: the bytes are not those that the id promises")


def read_table(data: bytes, schema: Any, what: str) -> Any:
    """Return the table in `data`, whose claims were checked before; `schema` is what its columns must be.

    Raises:
        Invalid: it is no such stream.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            if reader.schema.remove_metadata() != schema:
                raise Invalid(f"not a {what}: unknown columns")
            table = reader.read_all()
            table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Invalid(f"not a {what}: {type(error).__name__}") from None
    return table
