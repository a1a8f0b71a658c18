"""A scan from an archive to typed records, through the gateway and the command line, with every real server."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from millrace_sdk.cli import main
from tests.e2e.conftest import Platform

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

SAMPLES = {
    name: Path(str(get_testdata_file(name))).read_bytes() for name in ("CT_small.dcm", "rtplan.dcm", "rtstruct.dcm")
}
NAMES = ("compressedsamples", "1ct1", "phantom30sep", "last^first", "id00001", "dmason")
"""Patients and an operator in pydicom's samples."""


def packed() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in SAMPLES.items():
            info = tarfile.TarInfo(f"CompressedSamples^CT1/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def told(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_URL", platform.urls["gateway"])
    monkeypatch.setenv("MILLRACE_TOKEN_FILE", str(platform.stack.layout.owner_token))


def test_a_scan_is_ingested_and_its_records_are_read(
    platform: Platform, told: None, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = platform.land("archived-scans", {"batch.tar.gz": packed()})
    assert main(["data", "ingest", "archived-scans", f"{uri}batch.tar.gz", "--wait", "--timeout", "60"]) == 0
    assert "archived-scans@1" in capsys.readouterr().err

    assert main(["data", "jobs", "archived-scans", "--json"]) == 0
    [job] = json.loads(capsys.readouterr().out)["items"]
    assert (job["state"], job["files"], job["format"], job["version"]) == ("COMPLETED", 3, "archive", 1)

    assert main(["data", "records", "archived-scans@1", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert sorted({item["type"] for item in page["items"]}) == [
        "CT Image",
        "CT Slice",
        "RT Plan",
        "RT Structure Set",
        "Study",
    ]
    summary = platform.get("/v1/datasets/archived-scans/versions/1/records/summary")
    assert summary["types"]["CT Slice"]["records"] == 1
    assert "slices" in summary["columns"]["CT Image"]

    events = platform.get("/v1/events", limit=1_000, order="newest")["items"]
    version = platform.get("/v1/datasets/archived-scans/versions/1")
    lines = [line for path in Path(platform.stack.layout.logs).glob("*.log") for line in path.read_text().splitlines()]
    everything = json.dumps([page, summary, events, version, job, lines]).casefold()
    assert [name for name in NAMES if name in everything] == []
    assert platform.get("/v1/fsck")["violations"] == []


def test_a_hostile_archive_is_refused_with_its_reason(
    platform: Platform, told: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("way-out")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    uri = platform.land("hostile", {"batch.tar": out.getvalue()})
    assert main(["data", "ingest", "hostile", f"{uri}batch.tar", "--wait", "--timeout", "60"]) == 2
    assert "member 1 ('*'): it is a link or a device" in capsys.readouterr().err


def test_what_lands_is_refused_with_the_reason_where_it_fails_its_datasets_checks(
    platform: Platform, told: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = """
    checks:
      - name: no patient in two splits
        disjoint: {path: "^(?P<split>train|val)/(?P<group>p[0-9]+)[.]"}
      - name: ages
        table: {file: people.csv, rows: {min: 1}, columns: {age: {type: integer, min: 0, max: 120}}}
    """
    (tmp_path / "checks.yaml").write_text(document)
    platform.put("/v1/datasets/people", {})
    assert main(["data", "checks", "set", "people", str(tmp_path / "checks.yaml")]) == 0
    bad = {"train/p1.txt": b"1", "val/p1.txt": b"1", "people.csv": b"age\n30\n130\n"}
    assert main(["data", "ingest", "people", platform.land("people", bad), "--wait", "--timeout", "60"]) != 0
    told_why = capsys.readouterr().err
    assert "1 groups are in more than one split ('p1')" in told_why
    assert "column 'age': 1 cells more than 120 (row 2)" in told_why
    assert platform.get("/v1/datasets/people")["head"] is None
    good = {"train/p1.txt": b"1", "val/p2.txt": b"1", "people.csv": b"age\n30\n"}
    assert main(["data", "ingest", "people", platform.land("people", good), "--wait", "--timeout", "60"]) == 0
    assert main(["data", "checks", "try", "people@1"]) == 0
    assert main(["data", "checks", "show", "people"]) == 0
    assert "disjoint" in capsys.readouterr().out
