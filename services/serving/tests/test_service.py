"""The whole service on real servers: what a deployment's requester and its users see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.servers]


async def test_a_requested_model_answers(service: Any, kit: Any) -> None:
    model, name, images = kit.a_model(), kit.a_name(), kit.some_images(3)
    spec = await service.deploy(model, deployment=name)
    ready = await service.event("deployment.ready", name, 1)
    assert ready.data.backend_model == f"{name}.v1"
    assert ready.data.route_epoch == 1
    assert ready.data.golden_error < 1e-5
    assert ready.data.digest == spec.digest
    answer = await service.infer(name, images)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model_name"], body["model_version"]) == (name, "1")
    np.testing.assert_allclose(np.array(body["outputs"][0]["data"]).reshape(3, 10), model(images), atol=1e-5)
    assert answer.headers["x-model-version"] == f"{name}@1"
    assert answer.headers["x-route-epoch"] == "1"
    assert "x-prediction-id" in answer.headers
    assert (await service.endpoint(name))["state"] == "READY"
