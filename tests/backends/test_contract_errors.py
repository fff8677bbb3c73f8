"""What every backend must refuse, and what it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype.errors import BackendError, BundleError
from calotype.manifest import TensorSpec
from tests import fakes
from tests.backends import step_programs
from tests.backends.contract_cases import (
    Case,
    Make,
    fake_step,
    load_spec,
    step_inputs,
)
from tests.backends.step_programs import C, H, S, W


def test_a_run_names_every_input_that_was_never_given(make: Make) -> None:
    program = make()
    given = {name: value for name, value in step_inputs().items() if name in ("state", "read", "noise")}
    with pytest.raises(
        BackendError, match=r"unet_step \(batch 2\): inputs .* never given: write, time_features"
    ):
        program.run(given)


def test_a_wrong_dtype_is_refused_with_both_named(make: Make) -> None:
    state = step_inputs()["state"].astype(np.float64)
    with pytest.raises(
        BackendError, match=r"input `state`: expected float32 .*, found float64 \(2, 3, 4, 8, 8\)"
    ):
        make().bind({"state": state})


def test_a_wrong_shape_is_refused_with_both_named(make: Make) -> None:
    with pytest.raises(BackendError, match=r"`read`: expected float32 \(2, 3\), found float32 \(3, 2\)"):
        make().bind({"read": np.zeros((3, 2), np.float32)})


def test_an_unknown_input_is_refused_with_the_nearest_name(make: Make) -> None:
    with pytest.raises(BackendError, match=r"(?s)no input `stat`; it has state, read.*did you mean `state`"):
        make().bind({"stat": np.zeros((2, 3), np.float32)})


def test_an_output_cannot_be_bound(make: Make) -> None:
    with pytest.raises(BackendError, match=r"has no input `prediction`"):
        make().bind({"prediction": np.zeros((2, C, H, W), np.float32)})


def test_a_refused_bind_sets_nothing(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    program.bind(inputs)
    with pytest.raises(BackendError, match=r"`read`"):
        program.bind({"state": inputs["state"] * 2, "read": np.zeros(1, np.float32)})
    assert np.array_equal(program.get("state", 0), inputs["state"][0])


def test_an_output_is_carried_only_into_an_input_of_its_form(make: Make) -> None:
    message = r"`prediction` cannot be carried into input `state`: expected .*\(2, 3, 4, 8, 8\), found .*\(2, 4, 8, 8\)"
    with pytest.raises(BackendError, match=message):
        make().carry("prediction", "state")


def test_one_input_takes_one_carried_output(make: Make) -> None:
    program = make()
    program.carry("prediction", "noise")
    with pytest.raises(BackendError, match=r"has no output `state`"):
        program.carry("state", "next_state")
    spec = dataclasses.replace(program.spec, outputs=(*program.spec.outputs, noise_like("second")))
    doubled = fakes.program(spec, fake_step)
    doubled.carry("prediction", "noise")
    with pytest.raises(BackendError, match=r"`second` .* `prediction` is carried into `noise` already"):
        doubled.carry("second", "noise")


def noise_like(name: str) -> TensorSpec:
    return TensorSpec(name, "float32", (2, C, H, W))


def test_a_row_beyond_the_batch_is_refused(make: Make) -> None:
    program = make()
    program.run(step_inputs())
    for row in (-1, 2):
        with pytest.raises(BackendError, match=f"`state` has rows 0 to 1, found row {row}"):
            program.get("state", row)
        with pytest.raises(BackendError, match=f"`noise` has rows 0 to 1, found row {row}"):
            program.put("noise", row, np.zeros((C, H, W), np.float32))


def test_a_row_of_a_wrong_shape_is_refused(make: Make) -> None:
    program = make()
    program.bind(step_inputs())
    with pytest.raises(
        BackendError, match=r"row 1 of input `noise`: expected float32 \(4, 8, 8\), found float32 \(4,\)"
    ):
        program.put("noise", 1, np.zeros(C, np.float32))


def test_a_row_is_put_only_among_rows_that_were_bound(make: Make) -> None:
    with pytest.raises(
        BackendError, match=r"(?s)row 0 of input `noise` has no other rows.*bind the whole input"
    ):
        make().put("noise", 0, np.zeros((C, H, W), np.float32))


def test_what_was_never_given_or_computed_cannot_be_read(make: Make) -> None:
    program = make()
    with pytest.raises(BackendError, match=r"input `state` was never given"):
        program.get("state", 0)
    with pytest.raises(BackendError, match=r"output `prediction` is empty before the first run"):
        program.get("prediction", 0)
    with pytest.raises(BackendError, match=r"has no tensor `latents`"):
        program.get("latents", 0)


def test_a_tensor_without_an_address_fails_the_run(make_on_gpu: Make) -> None:
    program: Any = make_on_gpu()
    del program.launcher.context._addresses["noise"]
    with pytest.raises(BackendError, match=r"unet_step \(batch 2\): the run failed"):
        program.run(step_inputs())


def test_a_closed_program_refuses_every_call(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    program.run(inputs)
    program.close()
    program.close()
    calls: list[Callable[[], object]] = [
        lambda: program.run(inputs),
        lambda: program.bind(inputs),
        lambda: program.carry("next_state", "state"),
        lambda: program.put("noise", 0, inputs["noise"][0]),
        lambda: program.get("noise", 0),
    ]
    for call in calls:
        with pytest.raises(BackendError, match=r"unet_step \(batch 2\): the program was closed"):
            call()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            TensorSpec("state", "float32", (2, S, C, H, W + 1)),
            r"input `state`: .* says float32 \(2, 3, 4, 8, 9\)",
        ),
        (
            TensorSpec("state", "float16", (2, S, C, H, W)),
            r"input `state`: .* says float16 .* graph has float32",
        ),
        (
            TensorSpec("latents", "float32", (2, S, C, H, W)),
            r"input `latents`: .* says float32 .* graph has none",
        ),
    ],
)
def test_a_spec_that_the_graph_does_not_match_is_refused_by_name(
    vendor: Case, tmp_path: Path, changed: TensorSpec, message: str
) -> None:
    spec = step_programs.write(tmp_path, vendor[1])
    with pytest.raises(BundleError, match=message):
        load_spec(vendor[0], tmp_path, dataclasses.replace(spec, inputs=(changed, *spec.inputs[1:])))


def test_an_output_that_the_spec_does_not_have_is_refused_by_name(vendor: Case, tmp_path: Path) -> None:
    spec = step_programs.write(tmp_path, vendor[1])
    with pytest.raises(
        BundleError, match=r"output `prediction`: the manifest says none, the graph has float32"
    ):
        load_spec(vendor[0], tmp_path, dataclasses.replace(spec, outputs=spec.outputs[:1]))


def test_a_damaged_graph_is_refused_with_its_file_named(vendor: Case, tmp_path: Path) -> None:
    spec = step_programs.write(tmp_path, vendor[1])
    graph = tmp_path / spec.files[0].path
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(BundleError, match=r"onnx/unet_step_2.onnx is no ONNX graph: it ends in the middle"):
        load_spec(vendor[0], tmp_path, spec)


def test_what_the_library_cannot_load_is_reported_with_its_message(vendor: Case, tmp_path: Path) -> None:
    spec = step_programs.write(tmp_path, vendor[1])
    graph = tmp_path / spec.files[0].path
    graph.write_bytes(graph.read_bytes().replace(b"Sigmoid", b"Sigmoif"))
    with pytest.raises(
        BackendError, match=r"(?s)unet_step \(batch 2\): .* cannot load onnx/unet_step_2.*Sigmoif"
    ):
        load_spec(vendor[0], tmp_path, spec)
