"""compose.yaml, as far as it can be judged without an engine: hardened, complete, and spelled as the settings are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_manager.settings import CacheManagerSettings
from catalog.settings import CatalogSettings
from drift_monitor.settings import DriftMonitorSettings
from ingest.settings import IngestSettings
from millrace.settings import ServiceSettings, SharedSettings
from millrace_stack import compose
from serving.settings import ServingSettings
from trainer.settings import TrainerSettings

ROOT = Path(__file__).resolve().parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = FILE["services"]
OURS: dict[str, type[ServiceSettings]] = {
    "catalog": CatalogSettings,
    "serving": ServingSettings,
    "cache-manager": CacheManagerSettings,
    "ingest": IngestSettings,
    "trainer": TrainerSettings,
    "drift-monitor": DriftMonitorSettings,
}
JOBS = {"init", "mongo-init", "provisioner"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"init"}))
def test_every_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert re.match(r"^(?!0:)\d+:\d+$", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_only_the_first_job_is_root_and_it_has_no_network() -> None:
    init = SERVICES["init"]
    assert init["network_mode"] == "none"
    assert init["cap_drop"] == ["ALL"]
    assert set(init["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - JOBS))
def test_every_long_runner_is_health_checked(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_published_is_published_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_image_floats(name: str) -> None:
    image = SERVICES[name]["image"]
    assert image.startswith("millrace/") or re.search(r":v?\d", image), image


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_environment_is_spelled_as_the_settings_are_and_holds_no_secret(name: str) -> None:
    settings = OURS[name]
    prefix = str(settings.model_config["env_prefix"])
    own = {f"{prefix}{field.upper()}" for field in settings.model_fields}
    shared = {f"MILLRACE_{field.upper()}" for field in SharedSettings.model_fields}
    given = SERVICES[name]["environment"]
    assert set(given) <= own | shared
    for variable, value in given.items():
        if re.search(r"TOKEN|SECRET|PASSWORD|SEED|PEPPER|KEY|MONGO_URI", variable):
            assert variable.endswith("_FILE")
            assert str(value).startswith("/secrets/")


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_settings_take_what_compose_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    settings = OURS[name]()
    assert settings.host == "0.0.0.0"
    SharedSettings()


def test_everybody_waits_for_what_it_needs() -> None:
    for name in OURS:
        after = SERVICES[name]["depends_on"]
        assert after["init"]["condition"] == "service_completed_successfully"
        assert {"mongo-init", "nats", "s3"} <= set(after)
        assert all(dependency in SERVICES for dependency in after)


def test_every_volume_is_declared() -> None:
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert named == set(FILE["volumes"])


def test_the_first_job_makes_what_the_containers_mount(tmp_path: Path) -> None:
    secrets, volumes = tmp_path / "secrets", tmp_path / "volumes"
    (volumes / "grafana-secret").mkdir(parents=True)
    compose.prepare(secrets, volumes)
    wanted = {
        Path(str(value)).relative_to("/secrets")
        for name in OURS
        for value in SERVICES[name]["environment"].values()
        if str(value).startswith("/secrets/")
    }
    assert all((secrets / path).is_file() for path in wanted)
    assert all((secrets / path).stat().st_mode & 0o077 == 0 for path in wanted)
    configuration = (secrets / "nats.conf").read_text()
    assert "sync_interval: always" in configuration
    assert configuration.count("nkey:") == 8
    before = (secrets / "owner.token").read_text()
    compose.prepare(secrets, volumes)
    assert (secrets / "owner.token").read_text() == before


def test_minio_is_pinned_and_called_archived() -> None:
    text = (ROOT / "compose.minio.yaml").read_text()
    assert "archived" in text
    assert "RELEASE.2025" in yaml.safe_load(text)["services"]["s3"]["image"]
