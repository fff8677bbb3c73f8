"""Bfloat16 on processors that OpenVINO has no kernels for it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends import step_programs
from tests.backends.contract_cases import step_inputs

ov = pytest.importorskip("openvino", reason="openvino is not installed")

from calotype.backends import _openvino_widening  # noqa: E402  (needs OpenVINO)
from calotype.backends.openvino import Compiler  # noqa: E402

CONSTANTS, CONVERSIONS = 4, 2  # of bfloat16 in a step's program


def read(folder: Path, precision: str) -> Any:
    spec = step_programs.write(folder / precision, precision)
    return Compiler(1).read_as_it_is(folder / precision / spec.files[0].path)


def predicted(model: Any) -> Any:
    return Compiler(1).compile(model)(step_inputs())["prediction"]


def test_all_of_a_widened_graph_is_float32_with_rounded_weights(tmp_path: Path) -> None:
    exact, narrow, wide = (read(tmp_path, precision) for precision in ("fp32", "bf16", "bf16"))
    assert _openvino_widening.widen(wide) == CONSTANTS + CONVERSIONS
    types = {output.get_element_type() for node in wide.get_ops() for output in node.outputs()}
    assert ov.Type.f32 in types
    assert ov.Type.bf16 not in types
    assert not any(node.get_type_name() == "Convert" for node in wide.get_ops())

    weights, rounded = (
        [node.get_data(dtype="float32") for node in model.get_ordered_ops() if large(node)]
        for model in (narrow, wide)
    )
    assert len(weights) == CONSTANTS
    assert all(np.array_equal(*pair) for pair in zip(weights, rounded, strict=True))
    expected = predicted(exact)
    assert 0 < np.linalg.norm(predicted(wide) - expected) / np.linalg.norm(expected) < 2**-7


def large(node: Any) -> bool:
    """Whether it is a weight, and no shape."""
    return node.get_type_name() == "Constant" and node.get_element_type() in (ov.Type.bf16, ov.Type.f32)


def test_float32_graphs_stay(tmp_path: Path) -> None:
    assert _openvino_widening.widen(read(tmp_path, "fp32")) == 0


def test_graphs_stay_where_openvino_computes_bfloat16(tmp_path: Path) -> None:
    nodes = Compiler(1).compile(read(tmp_path, "bf16")).get_runtime_model().get_ops()
    computed = any(node.get_rt_info()["runtimePrecision"].astype(str) == "bf16" for node in nodes)
    found = _openvino_widening.simplify(read(tmp_path, "bf16"))
    assert found == (0 if computed else CONSTANTS + CONVERSIONS)
