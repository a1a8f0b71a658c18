"""One whole platform for the end-to-end tests: every server and service, started once per worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from millrace.clock import SystemClock, new_id
from millrace_stack.config import StackConfig
from millrace_stack.stack import Stack, down, up

T = TypeVar("T")

FILES = {f"train/{label}/{number}.txt": f"{label}{number}".encode() for label in "ab" for number in range(5)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--browser", action="store_true", help="run the tests that need a browser")


class Platform:
    """The running platform, asked over HTTP as the owner."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.urls = stack.state.urls
        self.token = stack.layout.owner_token.read_text().strip()
        self.http = httpx.Client(
            base_url=self.urls["gateway"], timeout=15, headers={"authorization": f"Bearer {self.token}"}
        )

    def get(self, path: str, **params: Any) -> Any:
        response = self.http.get(path, params=params)
        assert response.is_success, f"GET {path}: {response.status_code} {response.text[:300]}"
        return response.json()

    def put(self, path: str, body: Any) -> Any:
        response = self.http.put(path, json=body)
        assert response.is_success, f"PUT {path}: {response.status_code} {response.text[:300]}"
        return response.json()

    def event(
        self,
        event_type: str,
        match: Callable[[dict[str, Any]], bool],
        seconds: float = 60,
        *,
        story: str | None = None,
    ) -> dict[str, Any]:
        """Return the newest event of a type whose data matches; `story` is a correlation id."""

        def look() -> dict[str, Any] | None:
            params = {"type": event_type, "order": "newest", "limit": 100, "correlation": story}
            found = self.get("/v1/events", **{k: v for k, v in params.items() if v is not None})["items"]
            return next((item["event"] for item in found if match(item["event"]["data"])), None)

        return until(f"event {event_type}", look, seconds)

    def land(self, dataset: str, files: dict[str, bytes]) -> str:
        """Put files below a fresh landing prefix of the lake, as an ETL job would; return the prefix's URI."""
        import io

        prefix = f"default/landing/{dataset}-{new_id()}/"
        for path, data in files.items():
            self._lake().put_object("millrace", prefix + path, io.BytesIO(data), len(data))
        return f"s3://millrace/{prefix}"

    def lose_object(self, key: str) -> None:
        """Take an object out of the lake behind everybody's back."""
        self._lake().remove_object("millrace", key)

    def _lake(self) -> Any:
        from minio import Minio

        layout = self.stack.layout
        endpoint = self.urls["s3"].removeprefix("http://")
        keys = layout.s3_access_key.read_text().strip(), layout.s3_secret_key.read_text().strip()
        return Minio(endpoint, access_key=keys[0], secret_key=keys[1], secure=False)

    def logs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return (service, record) of every JSON log line of every process."""
        for path in sorted(Path(self.stack.layout.logs).glob("*.log")):
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("{"):
                    try:
                        yield path.stem, json.loads(line)
                    except ValueError:
                        continue


def until(what: str, look: Callable[[], T | None], seconds: float = 60) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("stack")
    stack = up(home, StackConfig(ports="auto"), seconds=240)
    try:
        running = Platform(stack)
        yield running
        running.http.close()
    finally:
        down(home)


@pytest.fixture(scope="session")
def trained(platform: Platform) -> dict[str, Any]:
    """A dataset version that external ETL handed over by HTTP, and the run that a policy started on it."""
    policy = {
        "on": "dataset.committed",
        "where": {"dataset": "etl"},
        "do": [{"cache": {"site": "nfs-a"}}, {"train": {"component": "noop", "site": "nfs-a"}}],
    }
    platform.put("/v1/policies/train-etl", policy)
    uri = platform.land("etl", FILES)
    event_id = f"adf-{new_id()}"
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/factories/etl",
        "type": "data.landed",
        "time": SystemClock().now().isoformat(),
        "data": {"dataset": "etl", "uri": uri},
    }
    etl = {"authorization": f"Bearer {platform.stack.layout.etl_token.read_text().strip()}"}
    etl["content-type"] = "application/cloudevents+json"
    accepted = httpx.post(f"{platform.urls['gateway']}/v1/events", json=event, headers=etl, timeout=15)
    assert accepted.status_code == 202, accepted.text
    assert isinstance(accepted.json(), dict)
    again = httpx.post(f"{platform.urls['gateway']}/v1/events", json=event, headers=etl, timeout=15)
    assert again.status_code == 202
    committed = platform.event("dataset.committed", lambda data: data["dataset"] == "etl")
    completed = platform.event("training.completed", lambda _: True, 120, story=committed["correlationid"])
    return {"operation": accepted.headers["location"], "committed": committed, "completed": completed, "etl": etl}


@pytest.fixture(scope="session")
def scans(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two versions of a dataset with pictures and DICOM slices, committed by hand."""
    from tests.e2e import samples

    return samples.make(platform, tmp_path_factory.mktemp("scans"))
