"""What was taken out of the step, and put together again in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from calotype.bundle import Bundle
from calotype.manifest import ProgramSpec
from calotype_export import hoist, signatures
from tests.bundles import bundle


def write(path: Path, model: ir.Model) -> onnxruntime.InferenceSession:
    ir.save(model, path, external_data=f"{path.stem}.data")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, given: dict[str, Any]) -> dict[str, Any]:
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name: given[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, wanted), strict=True))


def step_of(name: str) -> tuple[ir.Model, ProgramSpec]:
    spec = Bundle.open(bundle(name)).program("unet_step")
    return ir.load(bundle(name) / spec.files[0].path), spec


@pytest.mark.parametrize("name", ["plain", "v-prediction", "inpainting", "depth", "unguided"])
def test_the_three_parts_compute_what_the_step_computes(name: str, tmp_path: Path) -> None:
    model, spec = step_of(name)
    whole = write(tmp_path / "whole.onnx", model)
    parts = hoist.split(step_of(name)[0])
    prompt, row, step = (
        write(tmp_path / f"{part}.onnx", getattr(parts, part)) for part in ("prompt", "row", "step")
    )
    for seed in (0, 1):
        given: dict[str, Any] = dict(signatures.example(spec.inputs, seed))
        expected = run(whole, given)["next_state"]
        found = run(step, given | run(prompt, given) | run(row, given))["next_state"]
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


def test_no_product_of_the_embeddings_or_the_timestep_is_left_in_the_step() -> None:
    model, _ = step_of("plain")
    attentions = sum(node.op_type == "Attention" for node in model.graph)
    parts = hoist.split(model)
    inputs = {value.name for value in parts.step.graph.inputs}
    prompt = [value.name for value in parts.prompt.graph.outputs]

    assert not inputs & {"embeddings", "time_features"}
    assert len(prompt) == attentions  # a key and a value for every second attention
    assert {*prompt, *(value.name for value in parts.row.graph.outputs)} <= inputs


def test_weights_are_divided_and_not_copied(tmp_path: Path) -> None:
    model, _ = step_of("plain")
    parts = hoist.split(model)
    sizes: list[int] = []
    for part in (parts.prompt, parts.row, parts.step):
        tensors = [value.const_value for value in part.graph.initializers.values()]
        sizes.append(sum(tensor.nbytes for tensor in tensors if tensor is not None))
    whole = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)

    assert min(sizes) > 0
    assert sum(sizes) <= whole * 1.01
