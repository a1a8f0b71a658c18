"""The files of a version folder that Triton reads: `config.pbtxt` and `1/model.py`, both written by serving itself.

Triton's python backend runs `model.py`, which opens `model.onnx` with onnxruntime, one thread per instance. Nothing
that comes with a model package is executed.
"""

from __future__ import annotations

from serving.domain.package import Signature, Tensor

_TYPES = {"BYTES": "TYPE_STRING"}

MODEL_PY = '''\
"""Written by Millrace serving; runs model.onnx beside this file."""

import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        config = json.loads(args["model_config"])
        self.inputs = [item["name"] for item in config["input"]]
        self.outputs = [item["name"] for item in config["output"]]
        self.batched = int(config.get("max_batch_size", 0)) > 0

    def execute(self, requests):
        feeds = [[self._array(request, name) for name in self.inputs] for request in requests]
        if self.batched and len(requests) > 1:
            try:
                return self._together(requests, feeds)
            except Exception:
                pass  # one request must not fail its neighbours: ask one by one
        return [self._alone(request, feed) for request, feed in zip(requests, feeds)]

    def _array(self, request, name):
        return pb_utils.get_input_tensor_by_name(request, name).as_numpy()

    def _run(self, feed):
        return self.session.run(self.outputs, dict(zip(self.inputs, feed)))

    def _together(self, requests, feeds):
        results = self._run([np.concatenate(parts) for parts in zip(*feeds)])
        ends = np.cumsum([len(feed[0]) for feed in feeds])[:-1]
        parts = zip(*(np.split(result, ends) for result in results))
        return [self._response(request, part) for request, part in zip(requests, parts)]

    def _alone(self, request, feed):
        try:
            return self._response(request, self._run(feed))
        except Exception as error:
            message = "the model refused the input: " + str(error)[:500]
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))

    def _response(self, request, arrays):
        wanted = request.requested_output_names()
        tensors = [pb_utils.Tensor(name, array) for name, array in zip(self.outputs, arrays) if name in wanted]
        return pb_utils.InferenceResponse(output_tensors=tensors)
'''


def config_pbtxt(backend: str, signature: Signature, *, max_batch_size: int, digest: str) -> str:
    """Return Triton's model configuration. Names and types were checked by the domain, so nothing needs escaping."""
    batched = signature.batched
    lines = [f'name: "{backend}"', 'backend: "python"', f"max_batch_size: {max_batch_size if batched else 0}"]
    lines += [_tensor("input", tensor, batched) for tensor in signature.inputs]
    lines += [_tensor("output", tensor, batched) for tensor in signature.outputs]
    lines.append("instance_group [ { count: 1 kind: KIND_CPU } ]")
    if batched:
        lines.append("dynamic_batching { }")
    lines.append(f'parameters {{ key: "millrace_digest" value {{ string_value: "{digest}" }} }}')
    return "\n".join(lines) + "\n"


def _tensor(side: str, tensor: Tensor, batched: bool) -> str:
    dims = tensor.shape[1:] if batched else tensor.shape
    kind = _TYPES.get(tensor.dtype, f"TYPE_{tensor.dtype}")
    if not dims:  # Triton wants at least one side: one value per row is a row of one
        return f'{side} [ {{ name: "{tensor.name}" data_type: {kind} dims: [ 1 ] reshape: {{ shape: [ ] }} }} ]'
    return f'{side} [ {{ name: "{tensor.name}" data_type: {kind} dims: [ {", ".join(map(str, dims))} ] }} ]'
