"""Captured requests as columnar batches; runs in a thread, away from the reply path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from millrace.inference import MAX_BATCH_BYTES, BatchHeader, InferenceBatch, batch_subject, encode_batch, message_id
from serving.adapters.tensors import Undecodable, first_tensor
from serving.application.capture import FLUSH_BYTES, FLUSH_ROWS, Captured, row_ids
from serving.domain.routes import Arm, Route

SKIPPED = Counter("millrace_serving_capture_skipped_total", "Answered requests that were not captured", ["reason"])
ROWS = Counter("millrace_serving_capture_rows_total", "Rows captured")

_ROW_OVERHEAD = 96
_MAX_ROW_BYTES = MAX_BATCH_BYTES - 16 * 1024


@dataclass(frozen=True, slots=True)
class Encoded:
    """One batch ready to be published."""

    subject: str
    message_id: str
    payload: bytes
    rows: int


@dataclass
class _Group:
    """Rows that share a header and shapes."""

    route: Route
    arm: Arm
    items: list[Captured] = field(default_factory=list)
    inputs: list[NDArray[np.float32]] = field(default_factory=list)
    outputs: list[NDArray[np.float32]] = field(default_factory=list)


class BatchMaker:
    """Numbers the rows of one worker since its boot and encodes them. Not for several threads at once."""

    def __init__(self, *, worker: str, boot: str) -> None:
        self._worker = worker
        self._boot = boot
        self._next = 0

    def make(self, items: list[Captured], *, rows_lost: int) -> list[Encoded]:
        """Return the batches of `items`, each at most 500 rows or about 200 kB (but at least one row)."""
        return [batch for group in _groups(items) for batch in self._encode(group, rows_lost)]

    def _encode(self, group: _Group, rows_lost: int) -> Iterator[Encoded]:
        counts = [len(part) for part in group.inputs]
        inputs, outputs = np.concatenate(group.inputs), np.concatenate(group.outputs)
        ids = [row for item, rows in zip(group.items, counts, strict=True) for row in row_ids(item.prediction, rows)]
        stamps = [np.datetime64(item.at.replace(tzinfo=None), "us") for item in group.items]
        at = np.repeat(np.array(stamps, dtype="datetime64[us]"), counts)
        latency = np.repeat(np.array([item.latency_us for item in group.items], dtype=np.int64), counts)
        row_bytes = _row_bytes(inputs, outputs)
        if row_bytes > _MAX_ROW_BYTES:
            SKIPPED.labels("row-too-large").inc(len(group.items))
            return
        step = max(1, min(FLUSH_ROWS, FLUSH_BYTES // row_bytes))
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            header = self._header(group, len(ids[part]), rows_lost)
            batch = InferenceBatch(header, ids[part], at[part], latency[part], inputs[part], outputs[part])
            ROWS.inc(len(batch))
            subject = batch_subject(header.project, header.deployment)
            yield Encoded(subject, message_id(header), encode_batch(batch), len(batch))

    def _header(self, group: _Group, rows: int, rows_lost: int) -> BatchHeader:
        first, self._next = self._next, self._next + rows
        route, arm = group.route, group.arm
        return BatchHeader(
            worker=self._worker,
            boot=self._boot,
            seq0=first,
            project=route.project,
            deployment=route.deployment,
            revision=arm.revision,
            model=arm.model,
            version=arm.version,
            digest=arm.digest,
            route_epoch=route.epoch,
            dataset=arm.dataset,
            commit=arm.commit,
            sampling=route.sampling,
            rows_lost=rows_lost,
        )


def _row_bytes(inputs: NDArray[np.float32], outputs: NDArray[np.float32]) -> int:
    return _ROW_OVERHEAD + (inputs.nbytes + outputs.nbytes) // len(inputs)


def _groups(items: list[Captured]) -> list[_Group]:
    groups: dict[tuple[object, ...], _Group] = {}
    for item in items:
        try:
            inputs = first_tensor(item.request, item.request_head, "inputs")
            outputs = first_tensor(item.reply, item.reply_head, "outputs")
        except Undecodable as error:
            SKIPPED.labels(str(error)).inc()
            continue
        if len(inputs) != len(outputs):
            SKIPPED.labels("rows-differ").inc()
            continue
        outputs = outputs.reshape(len(outputs), -1)
        key = (item.route.project, item.route.deployment, item.route.epoch, item.arm.revision, inputs.shape[1:])
        group = groups.setdefault((*key, outputs.shape[1]), _Group(item.route, item.arm))
        group.items.append(item)
        group.inputs.append(inputs)
        group.outputs.append(outputs)
    return list(groups.values())
