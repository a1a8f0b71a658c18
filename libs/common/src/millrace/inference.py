"""Captured predictions as they travel from serving to the drift monitor: one columnar batch per message.

A batch is one Arrow IPC stream with one record batch. Its schema metadata holds the header (`BatchHeader`, JSON under
the key `millrace`) and the shape of one input row; rows of a batch share deployment revision, route epoch and shape.

    prediction_id  utf8                     unique per prediction; what labels name later
    at             timestamp[us, UTC]       when the request arrived
    latency_us     int64                    arrival to answer of the whole request, microseconds
    inputs         fixed_size_list<float32> one row of the model's first input, flattened; `shape` restores it
    outputs        list<float32>            one row of the model's first output

Row `i` of a batch has the sequence number `seq0 + i`; (worker, boot, sequence) names a row for ever, so a consumer
can drop what it has seen and count what it missed. `rows_lost` is the worker's running total since its boot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from millrace.errors import Invalid, TooLarge
from millrace.events.names import Digest, Project, ResourceName

MAX_BATCH_BYTES = 1024 * 1024
"""Largest encoded batch in bytes that is decoded; the INFERENCE stream refuses more."""
MAX_ROWS = 65_536
"""Most rows of one batch."""

_HEADER_KEY = b"millrace"
_SHAPE_KEY = b"shape"
_MAX_RANK = 8


class UnreadableBatch(Invalid):
    """The bytes are no inference batch."""

    code = "unreadable-inference-batch"


Token = Annotated[str, StringConstraints(pattern=r"^[0-9a-z][0-9a-z-]{0,63}$")]


class BatchHeader(BaseModel):
    """What all rows of a batch share, and who produced them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker: Token = Field(description="the serving process; stable over its restarts")
    boot: Token = Field(description="fresh at every start of the worker")
    seq0: int = Field(ge=0, description="sequence number of the first row within (worker, boot)")
    project: Project
    deployment: ResourceName
    revision: int = Field(ge=1)
    model: ResourceName
    version: int = Field(ge=1)
    digest: Digest = Field(description="digest of the model package that answered")
    route_epoch: int = Field(ge=1)
    dataset: ResourceName
    commit: Digest = Field(description="the dataset commit that trained the model")
    sampling: float = Field(gt=0, le=1, description="share of requests that were captured")
    rows_lost: int = Field(default=0, ge=0, description="rows this worker dropped since its boot, all deployments")


@dataclass(frozen=True, slots=True)
class InferenceBatch:
    """Rows in columns; `inputs` is (rows, *shape) and `outputs` (rows, width), both float32."""

    header: BatchHeader
    prediction_ids: list[str]
    at: NDArray[np.datetime64]
    latency_us: NDArray[np.int64]
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.prediction_ids)


def batch_subject(project: str, deployment: str) -> str:
    """Return the subject that a deployment's batches are published on."""
    return f"tlm.inference.{project}.{deployment}"


def message_id(header: BatchHeader) -> str:
    """Return the `Nats-Msg-Id` of a batch, by which the broker drops a second copy."""
    return f"{header.worker}-{header.boot}-{header.seq0}"


def encode_batch(batch: InferenceBatch) -> bytes:
    """Return the batch as one Arrow IPC stream.

    Raises:
        Invalid: the columns disagree in length, or there are no rows.
    """
    rows = len(batch)
    columns = (batch.at, batch.latency_us, batch.inputs, batch.outputs)
    if not 0 < rows <= MAX_ROWS or any(len(column) != rows for column in columns) or batch.outputs.ndim != 2:
        raise Invalid("an inference batch needs rows, and columns of one length")
    shape = batch.inputs.shape[1:]
    inputs, outputs = _flat(batch.inputs), _flat(batch.outputs)
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(batch.outputs.shape[1])
    metadata = {_HEADER_KEY: batch.header.model_dump_json().encode(), _SHAPE_KEY: ",".join(map(str, shape)).encode()}
    arrays = [
        pa.array(batch.prediction_ids, pa.utf8()),
        pa.array(batch.at.astype("datetime64[us]"), pa.timestamp("us", tz="UTC")),
        pa.array(batch.latency_us.astype(np.int64, copy=False)),
        pa.FixedSizeListArray.from_arrays(pa.array(inputs), len(inputs) // rows),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(outputs)),
    ]
    names = ["prediction_id", "at", "latency_us", "inputs", "outputs"]
    record = pa.RecordBatch.from_arrays(arrays, names=names).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.schema) as writer:
        writer.write_batch(record)
    return bytes(sink.getvalue())


def decode_batch(raw: bytes, *, subject: str | None = None) -> InferenceBatch:
    """Return the batch in `raw`; `subject` is the bus subject it came on, if it did.

    Raises:
        UnreadableBatch: not such a batch, damaged, or its subject names another deployment.
        TooLarge: larger than any batch may be.
    """
    if len(raw) > MAX_BATCH_BYTES:
        raise TooLarge(f"inference batch of {len(raw)} bytes exceeds {MAX_BATCH_BYTES}")
    try:
        header, shape, record = _read(raw)
        batch = _columns(header, shape, record)
    except (pa.ArrowException, ValidationError, KeyError, TypeError, ValueError, OSError) as error:
        raise UnreadableBatch(f"not an inference batch: {type(error).__name__}: {str(error)[:200]}") from None
    if subject is not None and subject != batch_subject(header.project, header.deployment):
        raise UnreadableBatch("subject contradicts the batch's project or deployment")
    return batch


def _flat(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32).reshape(-1)


def _read(raw: bytes) -> tuple[BatchHeader, tuple[int, ...], Any]:
    with pa.ipc.open_stream(raw) as reader:
        record = reader.read_next_batch()
    record.validate(full=True)
    if not 0 < record.num_rows <= MAX_ROWS:
        raise ValueError("row count out of range")
    metadata = record.schema.metadata or {}
    header = BatchHeader.model_validate_json(metadata[_HEADER_KEY])
    text = metadata[_SHAPE_KEY].decode("ascii")
    shape = tuple(int(part) for part in text.split(",")) if text else ()
    if len(shape) > _MAX_RANK or any(side < 0 for side in shape):
        raise ValueError("shape out of range")
    return header, shape, record


def _columns(header: BatchHeader, shape: tuple[int, ...], record: Any) -> InferenceBatch:
    rows = record.num_rows
    if any(column.null_count for column in record.columns):
        raise ValueError("nulls are not allowed")
    inputs = record["inputs"].flatten().cast(pa.float32())
    outputs = record["outputs"].flatten().cast(pa.float32())
    if len(outputs) % rows or set(record["outputs"].value_lengths().to_pylist()) != {len(outputs) // rows}:
        raise ValueError("outputs differ in width")
    return InferenceBatch(
        header=header,
        prediction_ids=record["prediction_id"].cast(pa.utf8()).to_pylist(),
        at=record["at"].cast(pa.timestamp("us", tz="UTC")).to_numpy(zero_copy_only=False).astype("datetime64[us]"),
        latency_us=record["latency_us"].cast(pa.int64()).to_numpy(),
        inputs=inputs.to_numpy(zero_copy_only=False).reshape(rows, *shape),
        outputs=outputs.to_numpy(zero_copy_only=False).reshape(rows, len(outputs) // rows),
    )
