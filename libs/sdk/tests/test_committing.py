"""Versions that programs commit: files from memory, parts that many sent, tables."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.datasets.paths import Refused
from millrace.datasets.push import push_part
from millrace.datasets.sources import SourceFile
from millrace.errors import Conflict, Invalid, NotFound
from millrace_sdk import Dataset, committing, tables
from millrace_sdk.client import AsyncCatalog
from millrace_sdk.committing import Change, commit_files, commit_parts
from millrace_sdk.presigned import PresignedObjectStore

from .gateway import TOKEN, Gateway

pytestmark = pytest.mark.servers
T = TypeVar("T")


def run(work: Callable[[AsyncCatalog], Awaitable[T]]) -> T:
    async def main() -> T:
        async with AsyncCatalog(patience=1) as catalog:
            return await work(catalog)

    return asyncio.run(main())


def files(**contents: bytes) -> list[SourceFile]:
    return [SourceFile.of_bytes(path, data) for path, data in contents.items()]


def content(version: int) -> dict[str, bytes]:
    with Dataset.open(f"digits@{version}") as dataset:
        return dict(dataset.samples())


def test_a_version_is_replaced_or_extended(lakeside: Gateway) -> None:
    first = run(lambda catalog: commit_files(catalog, "digits", files(a=b"1", b=b"2"), Change(message="first")))
    assert (first["version"], first["message"], first["parent"]) == (1, "first", None)
    again = run(lambda catalog: commit_files(catalog, "digits", files(b=b"2", a=b"1"), Change()))
    assert again["version"] == 1, "equal files are no new version"
    more = run(lambda catalog: commit_files(catalog, "digits", files(b=b"3", c=b""), Change("append")))
    assert (more["version"], more["parent"]) == (2, first["commit"])
    assert content(2) == {"a": b"1", "b": b"3", "c": b""}
    run(lambda catalog: commit_files(catalog, "digits", files(d=b"4"), Change("replace")))
    assert content(3) == {"d": b"4"}


def test_parts_that_many_sent_are_one_version(lakeside: Gateway) -> None:
    async def work(catalog: AsyncCatalog) -> dict[str, Any]:
        store = PresignedObjectStore(catalog, "digits")
        sent = [
            await push_part(files(**{f"part-{number}": str(number).encode()}), store, project="default")
            for number in range(3)
        ]
        assert lakeside.versions == []
        await store.aclose()
        return await commit_parts(catalog, "digits", [part.manifest for part in sent], Change())

    made = run(work)
    assert (made["version"], made["files"]) == (1, 3)
    assert content(1) == {f"part-{number}": str(number).encode() for number in range(3)}


def test_parts_that_name_one_path_are_refused(lakeside: Gateway) -> None:
    async def work(catalog: AsyncCatalog) -> None:
        store = PresignedObjectStore(catalog, "digits")
        parts = [(await push_part(files(a=data), store, project="default")).manifest for data in (b"1", b"2")]
        await store.aclose()
        await commit_parts(catalog, "digits", parts, Change())

    with pytest.raises(Refused):
        run(work)
    assert lakeside.versions == []


@pytest.mark.parametrize("late", [1, committing.ATTEMPTS])
def test_a_commit_is_put_on_top_of_others(lakeside: Gateway, monkeypatch: pytest.MonkeyPatch, late: int) -> None:
    real, calls = AsyncCatalog.commit, 0

    async def commit(self: AsyncCatalog, *args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= late:
            raise Conflict("somebody else was quicker")
        return await real(self, *args, **more)

    monkeypatch.setattr(AsyncCatalog, "commit", commit)
    if late == committing.ATTEMPTS:
        with pytest.raises(Conflict):
            run(lambda catalog: commit_files(catalog, "digits", files(a=b"1"), Change("append")))
    else:
        made = run(lambda catalog: commit_files(catalog, "digits", files(a=b"1"), Change("append")))
        assert (made["version"], calls) == (1, late + 1)


def table_of(text: str) -> pa.Table:
    return pa.table({"x": list(range(len(text))), "y": list(text)})


def test_tables_are_read_by_columns(lakeside: Gateway) -> None:
    wide = pa.table({f"c{number}": pa.array(range(50_000)) for number in range(20)})
    contents = {
        "t/a.parquet": tables.parquet(table_of("ab")),
        "t/b.parquet": tables.parquet(table_of("c")),
        "t/d.csv": b"x,y\n7,d\n",
        "e.tsv": b"x\ty\n8\te\n",
        "wide.parquet": tables.parquet(wide),
        "broken.parquet": b"no table",
        "note.txt": b"",
    }
    run(lambda catalog: commit_files(catalog, "digits", files(**contents), Change()))
    with Dataset.open("digits") as dataset:
        assert tables.read(dataset, "t/*.parquet").to_pydict() == {"x": [0, 1, 0], "y": ["a", "b", "c"]}
        assert tables.read(dataset, "t/*").num_rows == 4
        assert tables.read(dataset, "e.tsv").to_pydict() == {"x": [8], "y": ["e"]}
        typed = pa.schema([("y", pa.string()), ("x", pa.float64())])
        assert pa.Table.from_batches(tables.batches(dataset, "t/d.csv", typed)).to_pydict() == {"y": ["d"], "x": [7.0]}
        one = pa.Table.from_batches(tables.batches(dataset, "wide.parquet", pa.schema([("c7", pa.int64())])))
        assert one.column("c7").to_pylist() == list(range(50_000))
        for wrong in (
            lambda: tables.read(dataset, "nothing*"),
            lambda: tables.read(dataset, "note.txt"),
            lambda: tables.read(dataset, "broken.parquet"),
            lambda: list(tables.batches(dataset, "t/a.parquet", pa.schema([("z", pa.int64())]))),
            lambda: list(tables.batches(dataset, "t/a.parquet", pa.schema([("y", pa.int64())]))),
            lambda: list(tables.batches(dataset, "t/d.csv", pa.schema([("y", pa.int64())]))),
        ):
            with pytest.raises((Invalid, NotFound)):
                wrong()


def test_a_parquet_file_is_whole() -> None:
    assert pq.read_table(io.BytesIO(tables.parquet(table_of("abc")))).equals(table_of("abc"))


def test_what_one_said_of_access_reaches_the_gateway(
    lakeside: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    run(lambda catalog: commit_files(catalog, "digits", files(a=b"1"), Change()))
    secret = tmp_path / "token"
    secret.write_text(f"{TOKEN}\n")
    monkeypatch.delenv("MILLRACE_URL")
    monkeypatch.delenv("MILLRACE_TOKEN")
    with Dataset.open("digits", url=lakeside.url, token_file=str(secret)) as dataset:
        assert dataset.read("a") == b"1"
        packed = pickle.dumps(dataset)
        assert TOKEN.encode() not in packed
        with pickle.loads(packed) as other:
            assert other.read("a") == b"1"
    with pytest.raises(Invalid, match="cannot read the token file"):
        Dataset.open("digits", url=lakeside.url, token_file=str(tmp_path / "none"))
