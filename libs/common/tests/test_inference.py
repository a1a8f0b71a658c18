from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from millrace.errors import Invalid, TooLarge
from millrace.inference import (
    MAX_BATCH_BYTES,
    BatchHeader,
    InferenceBatch,
    UnreadableBatch,
    batch_subject,
    decode_batch,
    encode_batch,
    message_id,
)


def a_header(**changes: object) -> BatchHeader:
    values: dict[str, object] = {
        "worker": "serving-0",
        "boot": "0192f0c1",
        "seq0": 7,
        "project": "default",
        "deployment": "digits",
        "revision": 2,
        "model": "digits",
        "version": 3,
        "digest": "a" * 64,
        "route_epoch": 5,
        "dataset": "digits",
        "commit": "b" * 64,
        "sampling": 1.0,
    }
    return BatchHeader.model_validate(values | changes)


def a_batch(rows: int = 3, shape: tuple[int, ...] = (8, 8, 1), width: int = 10) -> InferenceBatch:
    rng = np.random.default_rng(1)
    return InferenceBatch(
        header=a_header(),
        prediction_ids=[f"p-{row}" for row in range(rows)],
        at=np.array([1_700_000_000_000_000 + row for row in range(rows)], dtype="datetime64[us]"),
        latency_us=np.arange(rows, dtype=np.int64),
        inputs=rng.random((rows, *shape), dtype=np.float32),
        outputs=rng.random((rows, width), dtype=np.float32),
    )


def test_a_batch_comes_back_as_it_went() -> None:
    batch = a_batch()
    back = decode_batch(encode_batch(batch), subject=batch_subject("default", "digits"))
    assert back.header == batch.header
    assert back.prediction_ids == batch.prediction_ids
    for name in ("at", "latency_us", "inputs", "outputs"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name))
        assert getattr(back, name).dtype == getattr(batch, name).dtype


@given(
    rows=st.integers(1, 20),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=5),
    width=st.integers(1, 5),
)
def test_every_shape_survives(rows: int, shape: tuple[int, ...], width: int) -> None:
    batch = a_batch(rows, shape, width)
    back = decode_batch(encode_batch(batch))
    assert back.inputs.shape == (rows, *shape)
    np.testing.assert_array_equal(back.outputs, batch.outputs)


def test_nan_and_infinity_are_data() -> None:
    batch = a_batch()
    batch.inputs[0, 0, 0, 0] = np.nan
    batch.inputs[1, 0, 0, 0] = np.inf
    np.testing.assert_array_equal(decode_batch(encode_batch(batch)).inputs, batch.inputs)


def test_the_message_id_names_worker_boot_and_first_row() -> None:
    assert message_id(a_header()) == "serving-0-0192f0c1-7"


@given(st.binary(max_size=400))
def test_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableBatch):
        decode_batch(raw)


@given(st.data())
def test_a_damaged_batch_is_refused_or_read_but_never_crashes(data: st.DataObject) -> None:
    raw = bytearray(encode_batch(a_batch(2, (2,), 2)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(Invalid):
        decode_batch(bytes(raw))


def test_a_foreign_subject_is_refused() -> None:
    with pytest.raises(UnreadableBatch, match="subject"):
        decode_batch(encode_batch(a_batch()), subject="tlm.inference.default.other")


def test_too_large_and_uneven_are_refused() -> None:
    with pytest.raises(TooLarge):
        decode_batch(bytes(MAX_BATCH_BYTES + 1))
    batch = a_batch()
    uneven = InferenceBatch(
        batch.header, batch.prediction_ids[:2], batch.at, batch.latency_us, batch.inputs, batch.outputs
    )
    with pytest.raises(Invalid):
        encode_batch(uneven)
