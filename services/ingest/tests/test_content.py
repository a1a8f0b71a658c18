"""Archives, DICOM, tables and images from landing to version, on a real mongod and a real S3."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.datasets.stored import load_commit
from millrace.telemetry import span

from .archive_files import FILES, FORMS, HOSTILE, tarred, zipped
from .dicom_files import PLANTED, SAMPLES, leaks, planted, slices

pytestmark = pytest.mark.servers


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(height * (width + 1))))


async def land(lab: Any, name: str, data: bytes) -> str:
    uri: str = await lab.land("default/landing/z/", {name: data})
    return f"{uri}{name}"


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.zst"])
async def test_an_archive_becomes_a_version(lab: Any, form: str) -> None:
    ingest = await lab.ingest()
    uri = await land(lab, f"batch.{form}", FORMS[form](FILES))

    job = await lab.take(ingest, uri, format="archive")

    assert (job.state, job.reason, job.files, job.bytes) == ("COMPLETED", "", 3, 311)
    assert await lab.paths(job.commit) == sorted(FILES)
    records = {record.path: record for record in await lab.records(job.commit)}
    assert records["train/1/b.txt"].type == "Text"
    assert records["train/1/b.txt"].source == f"{uri}!/train/1/b.txt"
    assert await lab.violations(ingest) == []


@pytest.mark.parametrize("name", ["climbing zip", "bomb", "symlink", "nested zip", "encrypted", "cut gzip"])
async def test_a_hostile_archive_leaves_nothing(lab: Any, name: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    ingest = await lab.ingest(spool_folder=spool)
    make, why = HOSTILE[name]
    job = await lab.take(ingest, await land(lab, "x.bin", make()), format="archive")

    assert (job.state, lab.catalog.commits) == ("FAILED", 0)
    assert why in job.reason
    assert [event.type for event in await lab.events()] == ["ingest.started", "ingest.failed"]
    assert [info.key async for info in lab.store.list("default/")] == ["default/landing/z/x.bin"]
    assert list(spool.iterdir()) == []


async def test_a_missing_archive_and_a_folder_are_no_archive(lab: Any) -> None:
    ingest = await lab.ingest()
    uri = await lab.land("default/landing/z/", {"a": b"1"})
    for bad, why in ((f"{uri}nothing.zip", "no archive lies"), (uri, "one object")):
        job = await lab.take(ingest, bad, format="archive")
        assert (job.state, why in job.reason) == ("FAILED", True)


async def test_the_spool_has_a_limit(lab: Any) -> None:
    ingest = await lab.ingest(spool_bytes=100)
    job = await lab.take(ingest, await land(lab, "x.zip", zipped(FILES)), format="archive")
    assert (job.state, "local disk" in job.reason) == ("FAILED", True)


async def everything(lab: Any) -> bytes:
    """Return all that lies outside the landing folder: objects, packs with what they hold, and every document."""
    found = [info.key async for info in lab.store.list("")]
    kept = [key for key in found if "/landing/" not in key]
    parts = [key.encode() for key in kept] + [await lab.store.get(key) for key in kept]
    for name in await lab.client[lab.database].list_collection_names():
        async for row in lab.client[lab.database][name].find():
            row.get("cause", {}).pop("event", None)
            parts.append(repr(row).encode())
    parts += [json.dumps(rows).encode() for rows in lab.catalog.versions.values()]
    return b"\n".join(parts)


class Caught(logging.Handler):
    """Keeps every line that anybody logs."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(repr(record.__dict__))


@pytest.fixture
def said(capfd: Any) -> Any:
    handler = Caught()
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(0)
    yield lambda: "\n".join(handler.lines + list(capfd.readouterr()))
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.mark.parametrize("form", ["files", "archive"])
async def test_a_patient_is_found_nowhere(lab: Any, said: Any, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    spans: list[str] = []

    def traced(name: str, **more: Any) -> Any:
        spans.append(f"{name} {more}")
        return span(name, **more)

    monkeypatch.setattr("ingest.application.reconcile.span", traced)
    ingest = await lab.ingest()
    family, given, number, _ = PLANTED
    files = {f"{family}^{given}/{number}/{name}": planted(name) for name in SAMPLES}
    files[f"{family}.txt"] = b"notes without a name"
    if form == "archive":
        job = await lab.take(ingest, await land(lab, "x.tar", tarred(files)), format="archive")
    else:
        job = await lab.take(ingest, await lab.land("default/landing/z/1/", files))

    assert (job.state, job.reason, job.files) == ("COMPLETED", "", 6)
    assert leaks(await everything(lab)) == []
    stored = await load_commit(lab.store, "default", job.commit)
    assert stored.lineage.source is None
    for path, data in (await lab.contents(job.commit)).items():
        assert leaks(path.encode() + data) == []
    assert leaks("\n".join([event.model_dump_json() for event in await lab.events()]).encode()) == []
    assert leaks(said().encode()) == []
    assert leaks("\n".join(spans).encode()) == []
    types = sorted(record.type for record in await lab.records(job.commit))
    wanted = ["CT Slice", "MR Slice", "RT Dose", "RT Plan", "RT Structure Set", "CT Image", "MR Image", "Text"]
    assert [kind for kind in types if kind != "Study"] == sorted(wanted)


@pytest.mark.parametrize("bad", ["cut", "burned in", "name", "archive"])
async def test_a_refusal_names_no_patient(lab: Any, said: Any, bad: str) -> None:
    ingest = await lab.ingest()
    family, given, number, _ = PLANTED
    name, data = {
        "cut": (f"{family}/{given}.dcm", planted("CT_small.dcm")[:900]),
        "burned in": (f"{family}/{given}.dcm", planted("CT_small.dcm", Modality="US")),
        "name": (f"{family}/{given} {number}\u0301e\u0301.txt", b"x"),
        "archive": (f"{family}.{given}", zipped({f"{family}.dcm": planted("CT_small.dcm")})),
    }[bad]
    job = await lab.take(ingest, await lab.land("default/landing/z/1/", {name: data}))
    assert (job.state, lab.catalog.commits) == ("FAILED", 0)
    assert "file 1 (" in job.reason
    assert leaks(await everything(lab)) == []
    assert leaks(job.reason.encode()) == []
    assert leaks(said().encode()) == []


async def test_a_scan_has_series_study_spacing_and_length(lab: Any) -> None:
    ingest = await lab.ingest()
    files = {f"{index}.dcm": data for index, data in enumerate(slices(9))}
    first = await lab.take(ingest, await lab.land("default/landing/z/1/", dict(list(files.items())[:5])))
    [image] = [record for record in await lab.records(first.commit) if record.type == "CT Image"]
    assert (image.facts()["slices"], image.facts()["scan_length"]) == (5, 10)

    second = await lab.take(
        ingest, await lab.land("default/landing/z/2/", dict(list(files.items())[4:])), mode="append"
    )
    records = await lab.records(second.commit)
    [image] = [record for record in records if record.type == "CT Image"]
    [study] = [record for record in records if record.type == "Study"]
    facts = image.facts()
    assert (facts["slices"], facts["slice_spacing"], facts["even"], facts["scan_length"]) == (9, 2.5, True, 20)
    assert [link.role for link in image.references] == ["slice"] * 9
    assert [(link.role, link.link, link.digest) for link in study.references] == [("image", image.id, image.digest)]
    assert second.files == 5
    assert len(await lab.paths(second.commit)) == 9


async def test_without_a_secret_dicom_is_refused(lab: Any) -> None:
    ingest = await lab.ingest(pseudonym_secret_file=None)
    job = await lab.take(ingest, await lab.land("default/landing/z/1/", {"a.dcm": planted("CT_small.dcm")}))
    assert (job.state, "no secret for pseudonyms" in job.reason) == ("FAILED", True)


@pytest.mark.parametrize(("documents", "state"), [("refuse", "FAILED"), ("drop", "COMPLETED")])
async def test_reports_are_refused_or_dropped(lab: Any, documents: str, state: str) -> None:
    ingest = await lab.ingest(dicom={"default": {"documents": documents}})
    report = planted("CT_small.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    job = await lab.take(
        ingest, await lab.land("default/landing/z/1/", {"a.dcm": planted("CT_small.dcm"), "b.dcm": report})
    )
    assert job.state == state
    assert (job.files, job.dropped) == ((1, 1) if documents == "drop" else (2, 0))


async def test_a_project_may_keep_its_phantoms_as_they_are(lab: Any) -> None:
    ingest = await lab.ingest(dicom={"default": {"deidentify": False}})
    data = planted("CT_small.dcm")
    job = await lab.take(ingest, await lab.land("default/landing/z/1/", {"phantom/a.dcm": data}))
    assert await lab.contents(job.commit) == {"phantom/a.dcm": data}


async def test_tables_and_images_are_described(lab: Any) -> None:
    ingest = await lab.ingest()
    rng = np.random.default_rng(7)
    ages = rng.integers(0, 90, 5_000)
    table = pa.table({"age": ages, "name": [f"n{index % 50}" for index in range(5_000)], "x": rng.normal(size=5_000)})
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    rows = "\n".join(f"{index},{index % 7 or ''},w{index % 3}" for index in range(1_000))
    files = {
        "a.parquet": parquet.getvalue(),
        "b.csv": f"id,day,word\n{rows}\n".encode(),
        "c.png": png(640, 480),
        "d.csv": b"no,table\n1\n",
        "late.csv": ("n\n" + "1\n" * 600_000 + "word\n").encode(),
    }
    job = await lab.take(ingest, await lab.land("default/landing/z/1/", files))
    assert (job.state, job.reason) == ("COMPLETED", "")
    records = {record.path: record for record in await lab.records(job.commit)}

    facts = records["a.parquet"].facts()
    columns = {column["name"]: column for column in facts["columns"]}
    assert (facts["rows"], facts["column_count"], records["a.parquet"].type) == (5_000, 3, "Table")
    assert (columns["age"]["min"], columns["age"]["max"]) == (int(ages.min()), int(ages.max()))
    assert columns["age"]["mean"] == pytest.approx(ages.mean())
    assert (columns["age"]["distinct"], columns["name"]["distinct"]) == (90, 50)
    assert columns["x"]["distinct"] == pytest.approx(5_000, rel=0.15)
    assert sum(columns["x"]["histogram"]["counts"]) == 5_000
    assert "min" not in columns["name"]
    columns = {column["name"]: column for column in records["b.csv"].facts()["columns"]}
    assert (columns["day"]["nulls"], columns["day"]["max"], columns["word"]["distinct"]) == (143, 6, 3)
    assert records["c.png"].facts() == {"width": 640, "height": 480, "bits": 8, "channels": 1}
    assert (records["d.csv"].type, records["d.csv"].facts()) == ("Text", {})
    assert records["late.csv"].facts()["columns"][0]["type"] == "string"


async def test_a_broken_parquet_file_is_refused(lab: Any) -> None:
    ingest = await lab.ingest()
    job = await lab.take(ingest, await lab.land("default/landing/z/1/", {"a.parquet": b"PAR1" + bytes(50) + b"PAR1"}))
    assert (job.state, "Parquet file cannot be read" in job.reason) == ("FAILED", True)


async def test_appending_keeps_the_records_of_files_that_stay(lab: Any) -> None:
    ingest = await lab.ingest()
    first = await lab.take(ingest, await lab.land("default/landing/z/1/", {"a.png": png(4, 4), "b.png": png(5, 5)}))
    second = await lab.take(
        ingest, await lab.land("default/landing/z/2/", {"b.png": png(6, 6), "c.txt": b"hi"}), mode="append"
    )
    before = {record.path: record for record in await lab.records(first.commit)}
    after = {record.path: record for record in await lab.records(second.commit)}
    assert after["a.png"] == before["a.png"]
    assert [after[path].facts().get("width") for path in ("b.png", "c.txt")] == [6, None]
    assert len(after) == 3


async def test_progress_is_written_down_while_a_job_is_worked_on(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.application.progress.EVERY_SECONDS", 0.01)
    ingest = await lab.ingest()
    files = {f"{index:02}.txt": b"x%d" % index for index in range(40)}
    event = lab.event(await lab.land("default/landing/z/1/", files))
    await lab.receive(ingest, event)
    written, go_on = asyncio.Event(), asyncio.Event()
    build = ingest.lake.build

    async def wait_in_between(*arguments: Any) -> Any:
        written.set()
        await go_on.wait()
        return await build(*arguments)

    ingest.lake.build = wait_in_between
    await ingest.attendance.step()
    await written.wait()
    async with asyncio.timeout(10):
        while (await ingest.world.jobs.get(event.key)).done < 40:
            await asyncio.sleep(0.01)
    go_on.set()
    job = await lab.until_ended(ingest, event.key)
    assert (job.state, job.files, job.done) == ("COMPLETED", 40, 40)


def test_the_systems_folder_is_left_as_it_was() -> None:
    assert not list(Path(tempfile.gettempdir()).glob("millrace-ingest-*"))
