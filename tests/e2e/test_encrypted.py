"""An encrypted project on the running platform: pushed, ingested, cached and pulled; its bucket gives nothing away."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from blake3 import blake3

from millrace.clock import new_id
from millrace.datasets.readers import Dataset
from tests.e2e.conftest import Platform, until
from tests.e2e.test_cli import run

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]
PATIENT = "Mustermann-Erika-19430117"
FILES = {f"{PATIENT}/{number}.txt": f"{PATIENT} visit {number}".encode() * 30 for number in range(8)}


@pytest.fixture(scope="module")
def project(platform: Platform) -> str:
    """A fresh encrypted project."""
    name = f"wards-{new_id().hex[-12:]}"
    asked = run(platform, "data", "encrypt", "-p", name)
    assert asked.returncode != 0, "it asks first"
    assert json.loads(run(platform, "data", "encrypt", "-p", name, "--show", "--json").stdout)["encrypted"] is False
    done = run(platform, "data", "encrypt", "-p", name, "-y")
    assert done.returncode == 0, done.stderr
    assert run(platform, "data", "encrypt", "-p", name, "-y").returncode == 0
    return name


@pytest.fixture(scope="module")
def synced(platform: Platform, project: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working copy whose first version is pushed."""
    root = tmp_path_factory.mktemp("wards")
    for path, data in FILES.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(data)
    assert run(platform, "data", "init", "visits", "-p", project, "-C", str(root)).returncode == 0
    done = run(platform, "data", "sync", "-C", str(root))
    assert done.returncode == 0, done.stderr
    return root


def _files(root: Path) -> dict[str, bytes]:
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.txt")}
    return {path: data for path, data in found.items() if not path.startswith(".")}


def _objects(platform: Platform, prefix: str) -> dict[str, bytes]:
    lake = platform._lake()
    names = [item.object_name for item in lake.list_objects("millrace", prefix=prefix, recursive=True)]
    return {name: lake.get_object("millrace", name).read() for name in names}


def test_it_is_pulled_verified_and_zipped(platform: Platform, project: str, synced: Path, tmp_path: Path) -> None:
    assert "encrypted in the lake" in run(platform, "data", "status", "-C", str(synced)).stderr
    pulled = run(platform, "data", "pull", "visits@1", str(tmp_path / "out"), "-p", project)
    assert pulled.returncode == 0, pulled.stderr
    assert _files(tmp_path / "out") == FILES
    assert run(platform, "data", "verify", "visits@1", "-p", project).returncode == 0
    assert run(platform, "data", "export", "visits@1", str(tmp_path / "all.tar"), "-p", project).returncode == 0
    assert run(platform, "data", "zip", "visits@1", "-o", str(tmp_path / "all.zip"), "-p", project).returncode == 0
    archive = zipfile.ZipFile(io.BytesIO((tmp_path / "all.zip").read_bytes()))
    assert {name: archive.read(name) for name in archive.namelist()} == FILES
    assert run(platform, "data", "rebuild", "visits", "-p", project).returncode == 0
    assert run(platform, "data", "gc", "-p", project).returncode == 0


def test_it_is_cached_as_a_tree_and_as_packs(platform: Platform, project: str, synced: Path) -> None:
    for mode in ([], ["--packs"]):
        done = run(platform, "cache", "add", "visits@1", "--site", "nfs-a", "-p", project, "--wait", "--json", *mode)
        assert done.returncode == 0, done.stderr
        path = Path(json.loads(done.stdout)["path"])
        if mode:
            with Dataset.open_packs(path) as dataset:
                assert {name: dataset.read(name) for name in dataset.paths} == FILES
        else:
            assert _files(path) == FILES


def test_what_lands_is_ingested_sealed(platform: Platform, project: str) -> None:
    http, here = platform.http, {"project": project}
    landing = http.post("/v1/landings", params=here).json()["landing"]
    for path, data in FILES.items():
        assert http.put(f"/v1/landings/{landing}/files/{path}", params=here, content=data).is_success
    body = {"dataset": "landed", "files": len(FILES), "bytes": sum(map(len, FILES.values())), "mode": "append"}
    closed = http.post(f"/v1/landings/{landing}", params=here, json=body)
    assert closed.status_code == 202, closed.text

    def committed() -> dict[str, Any] | None:
        answer = http.get("/v1/datasets/landed/versions/latest", params=here)
        return answer.json() if answer.status_code == 200 else None

    assert until("the ingested version", committed, 90)["files"] == len(FILES)
    first = next(iter(FILES))
    answer = http.get(f"/v1/datasets/landed/versions/1/files/{first}", params=here)
    assert answer.content == FILES[first]
    assert http.get("/v1/datasets/landed/versions/1/records", params=here).json()["items"]


def test_the_bucket_and_the_logs_give_nothing_away(platform: Platform, project: str, synced: Path) -> None:
    stored = _objects(platform, f"{project}/")
    sealed = {name: data for name, data in stored.items() if not name.startswith(f"{project}/landing/")}
    assert {name.split("/")[1] for name in sealed} == {"sealed"}
    assert {"packs", "manifests", "commits"} <= {name.split("/")[2] for name in sealed}
    digests = [blake3(data) for data in FILES.values()]
    planted = [PATIENT.encode(), *(it.digest() for it in digests), *(it.hexdigest().encode() for it in digests)]
    for name, data in sealed.items():
        assert not [secret for secret in planted if secret in data or secret in name.encode()], name
    key = platform.http.get("/v1/encryption/key", params={"project": project}).json()["key"]
    master = platform.stack.layout.master_key.read_text().strip()
    for path in platform.stack.layout.logs.glob("*.log"):
        text = path.read_text(errors="replace")
        assert key not in text, path
        assert master not in text, path
    events = platform.http.get("/v1/events", params={"project": project, "limit": 100}).text
    assert key not in events


def test_a_token_without_the_scope_pushes_and_pulls_nothing(
    platform: Platform, project: str, synced: Path, tmp_path: Path
) -> None:
    body = {"principal": "narrow", "kind": "token", "roles": ["contributor"], "project": project}
    body["scopes"] = ["datasets:read", "datasets:write"]
    token = platform.http.post("/v1/tokens", params={"project": project}, json=body).json()["token"]
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    (synced / "more.txt").write_text("more")
    try:
        for command in (("sync", "-C", str(synced)), ("pull", "visits@1", str(tmp_path / "out"), "-p", project)):
            done = run(platform, "data", *command, token=tmp_path / "token")
            assert done.returncode == 3, done.stderr
            assert "datasets:key" in done.stderr
    finally:
        (synced / "more.txt").unlink()
    client = httpx.Client(base_url=platform.urls["gateway"], headers={"authorization": f"Bearer {token}"})
    here = {"project": project}
    upload = {"objects": [{"kind": "chunks", "id": blake3(b"x").hexdigest()}]}
    refused = client.post("/v1/datasets/visits/uploads", params=here, json=upload)
    assert (refused.status_code, refused.json()["code"]) == (409, "not-sealed-so")
    first = next(iter(FILES))
    assert client.get(f"/v1/datasets/visits/versions/1/files/{first}", params=here).content == FILES[first]
    client.close()
