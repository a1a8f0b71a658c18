from __future__ import annotations

import json
from typing import Any

import pytest

from millrace_sdk.cli import ingest, main
from millrace_sdk.client import Catalog

from .gateway import Gateway

ITEM = {
    "id": "2.25.1/2.25.2/a.dcm",
    "type": "CT Slice",
    "path": "2.25.1/2.25.2/a.dcm",
    "size": 1_500,
    "digest": "0" * 64,
    "media_type": "application/dicom",
    "source": "",
    "references": [],
    "metadata": {"modality": "CT", "rows": 512, "position": [0, 0, 0]},
}
RECORDS = "/v1/datasets/scans/versions/2/records"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    events: list[Any] = []
    real = Catalog.send_event

    def send(self: Catalog, event: Any) -> Any:
        events.append(event)
        return real(self, event)

    monkeypatch.setattr(Catalog, "send_event", send)
    monkeypatch.setattr(ingest, "PAUSE_SECONDS", 0.0)
    return events


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        (["s3://b/default/landing/x/"], {"mode": "replace"}),
        (["s3://b/default/landing/x.tar.gz", "--mode", "append"], {"mode": "append", "format": "archive"}),
        (["s3://b/default/landing/x.zip", "--format", "files"], {"mode": "replace", "format": "files"}),
        (["https://h/x/", "--url", "https://h/x/a"], {"mode": "replace", "urls": ["https://h/x/a"]}),
        (["file:///mnt/scans", "-m", "monday"], {"mode": "replace", "message": "monday"}),
    ],
)
def test_ingest_sends_one_event(
    gateway: Gateway, sent: list[Any], arguments: list[str], data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.answers["POST", "/v1/events"] = {"operation": "o-1"}
    assert main(["data", "ingest", "scans", *arguments]) == 0
    assert "o-1" in capsys.readouterr().err
    [event] = sent
    assert event["data"] == {"dataset": "scans", "uri": arguments[0], **data}
    assert (event["type"], event["source"], event["specversion"]) == ("data.landed", "/people/cli", "1.0")


def test_ingest_waits_for_the_version_or_the_reason(
    gateway: Gateway, sent: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.answers["POST", "/v1/events"] = {"operation": "o-1"}
    done = {"operation": "o-1", "state": "completed", "reason": "", "result": {"version": 3}}
    gateway.answers["GET", "/v1/operations/o-1"] = done
    assert main(["data", "ingest", "scans", "s3://b/default/landing/x", "--wait"]) == 0
    assert "scans@3: ingested" in capsys.readouterr().err
    gateway.answers["GET", "/v1/operations/o-1"] = {**done, "state": "failed", "reason": "member 2 ('../*'): no"}
    assert main(["data", "ingest", "scans", "s3://b/default/landing/x", "--wait"]) == 2
    assert "refused: member 2" in capsys.readouterr().err
    gateway.answers["GET", "/v1/operations/o-1"] = {**done, "state": "running", "reason": "reading"}
    assert main(["data", "ingest", "scans", "s3://b/default/landing/x", "--wait", "--timeout", "1"]) == 6


def test_jobs_show_progress_and_reason(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    job = {"job": "a" * 32, "dataset": "scans", "state": "FAILED", "files": 3, "bytes": 9, "version": None}
    running = {**job, "state": "RUNNING", "done": 2, "reason": "writing to the lake"}
    gateway.answers["GET", "/v1/ingest/jobs"] = {"items": [running, {**job, "reason": "it is a link"}], "next": None}
    assert main(["data", "jobs", "scans"]) == 0
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert "2 of 3" in shown
    assert "it is a link" in shown


def test_records_are_listed_and_counted(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.answers["GET", RECORDS] = {"records": "f" * 64, "items": [ITEM], "next": None}
    assert main(["data", "records", "scans@2", "--type", "CT Slice"]) == 0
    assert "modality=CT, rows=512" in capsys.readouterr().out
    assert main(["data", "records", "scans@2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == [ITEM]
    counted = {"CT Slice": {"records": 1, "bytes": 1_500}}
    gateway.answers["GET", f"{RECORDS}/summary"] = {
        "records": "f" * 64,
        "total": 1,
        "types": counted,
        "columns": {"CT Slice": ["modality"]},
    }
    assert main(["data", "records", "scans@2", "--summary"]) == 0
    assert "CT Slice" in capsys.readouterr().out


def test_a_version_without_records_says_so(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.answers["GET", RECORDS] = {"records": None, "items": [], "next": None}
    assert main(["data", "records", "scans@2"]) == 0
    assert "it was not ingested" in capsys.readouterr().err
