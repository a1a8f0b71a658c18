"""tritonserver runs in its own environment and answers for a model that was loaded explicitly."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as client
from onnx import TensorProto, helper

from millrace_stack import environments, triton_env
from millrace_stack.pytest_plugin import Triton

CONFIG = """\
backend: "python"
max_batch_size: 0
input [{ name: "x" data_type: TYPE_FP32 dims: [-1, 2] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1, 2] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
MODEL = """\
import numpy
import onnxruntime
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        assert numpy.__version__.startswith("1."), numpy.__version__
        path = args["model_repository"] + "/" + args["model_version"] + "/model.onnx"
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            y = self.session.run(["y"], {"x": x})[0]
            answers.append(pb.InferenceResponse([pb.Tensor("y", y)]))
        return answers
"""


def write_model(folder: Path) -> None:
    """A model that doubles its input, run by onnxruntime."""
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1" / "model.py").write_text(MODEL)
    shape: list[str | int | None] = ["n", 2]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "1" / "model.onnx"))


@pytest.mark.servers
def test_a_model_is_loaded_over_grpc_and_answers(triton_server: Triton) -> None:
    write_model(triton_server.repository / "double.v1")
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    tensor = client.InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    with client.InferenceServerClient(triton_server.grpc) as triton:
        assert not triton.is_model_ready("double.v1")
        triton.load_model("double.v1", client_timeout=30)
        assert np.array_equal(triton.infer("double.v1", [tensor], client_timeout=10).as_numpy("y"), x * 2)
        triton.unload_model("double.v1")


def test_a_complete_environment_is_used_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "millrace" / f"triton-{triton_env._key()}"
    root.mkdir(parents=True)
    (root / environments._DONE).touch()
    built = triton_env.ensure(tmp_path / "other", environ={"XDG_CACHE_HOME": str(tmp_path)})
    assert built.root == root


def test_a_cache_that_cannot_be_written_leads_to_the_stacks_folder(tmp_path: Path, monkeypatch) -> None:
    built: list[Path] = []

    def build(root: Path, fill: object) -> Path:
        built.append(root)
        return root

    monkeypatch.setattr(environments, "_build", build)
    (tmp_path / "file").touch()
    triton_env.ensure(tmp_path / "stack", environ={"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert built == [tmp_path / "stack" / f"triton-{triton_env._key()}"]


def test_requirements_are_pinned_by_hash_and_name_no_host() -> None:
    text = triton_env.REQUIREMENTS.read_text()
    assert "://" not in text
    assert all("==" in line for line in text.splitlines() if not line.startswith((" ", "#")))
    assert text.count("==") <= text.count("--hash=sha256:")


@pytest.mark.slow
def test_a_projects_own_settings_do_not_reach_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People start the stack from their own projects' folders."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[tool.uv]\nconstraint-dependencies = ["numpy<1"]\n')
    monkeypatch.chdir(project)
    built = triton_env.ensure(project, environ={**os.environ, "XDG_CACHE_HOME": str(project / "cache")})
    assert built.root.is_relative_to(project)
    assert built.program.is_file()
