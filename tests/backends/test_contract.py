"""What every backend must do alike; run over each that is installed, and over the fake that stands in for them."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests import fakes
from tests.backends import step_programs
from tests.backends.step_programs import C, F, H, S, W

from calotype import backends
from calotype.backends import Array, BackendOptions, Program
from calotype.backends._buffers import BufferedProgram
from calotype.errors import BackendError, BundleError
from calotype.features import time_features
from calotype.manifest import ProgramSpec, TensorSpec, TimeEmbedding

Make = Callable[..., Program]
Case = tuple[str, str]  # backend, precision
VENDORS: list[Case] = [
    *((name, "fp32") for name in backends.names()),
    ("onnxruntime", "fp16"),
    ("openvino", "bf16"),
]


@pytest.fixture(params=[("fake", "fp32"), *VENDORS], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    return available(request.param)


@pytest.fixture(params=VENDORS, ids="-".join)
def vendor(request: pytest.FixtureRequest) -> Case:
    return available(request.param)


def available(case: Case) -> Case:
    if case[0] != "fake" and case[0] not in backends.installed():
        pytest.skip(f"{case[0]} is not installed")
    return case


@pytest.fixture
def make(case: Case, tmp_path: Path) -> Make:
    """`make(precision=..., batch=...)` loads a step program on the backend of the case."""

    def load(precision: str = case[1], batch: int = 2) -> Program:
        spec = step_programs.write(tmp_path / precision, precision, batch)
        return load_spec(case[0], tmp_path / precision, spec)

    return load


def load_spec(name: str, root: Path, spec: ProgramSpec) -> Program:
    if name == "fake":
        return fakes.program(spec, fake_step)
    return backends.load(name, root, spec, BackendOptions(threads=1))


def fake_step(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The frame of the step around a prediction that one line can make."""
    state, read, write = (inputs[name] for name in ("state", "read", "write"))
    sample = (state * read[:, :, None, None, None]).sum(1)
    prediction = np.tanh(sample + inputs["time_features"][:, :1, None, None])
    slots = np.concatenate([state, prediction[:, None], inputs["noise"][:, None]], axis=1)
    return {
        "next_state": (slots[:, None] * write[..., None, None, None]).sum(2),
        "prediction": prediction,
    }


def features(*timesteps: float) -> Array:
    embedding = TimeEmbedding(F, flip_sin_to_cos=True, freq_shift=0)
    return np.stack([time_features(timestep, embedding) for timestep in timesteps])


def step_inputs(seed: int = 0, batch: int = 2) -> dict[str, Array]:
    """Random numbers for every input; `write` mixes all slots, the prediction and the noise."""
    generator = np.random.default_rng(seed)
    inputs = {
        tensor.name: generator.standard_normal(tensor.shape).astype(np.float32)
        for tensor in step_programs.inputs(batch)
    }
    return inputs | {"time_features": features(*[999.0] * batch)}


def identity(batch: int = 2) -> Array:
    """The row that writes every slot back into itself."""
    return np.repeat(np.eye(S, S + 2, dtype=np.float32)[None], batch, axis=0)


def snapshot(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value.copy() for name, value in outputs.items()}


def whole(program: Program, name: str) -> Array:
    return np.stack([program.get(name, row) for row in range(program.spec.batch)])


def test_outputs_have_the_names_dtypes_and_shapes_of_the_spec(make: Make) -> None:
    program = make()
    outputs = program.run(step_inputs())
    found = [TensorSpec(name, value.dtype.name, value.shape) for name, value in outputs.items()]
    assert found == list(program.spec.outputs)


def test_an_input_stays_bound_until_it_is_replaced(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    first = snapshot(program.run(inputs))
    again = snapshot(program.run({"noise": inputs["noise"]}))
    other = snapshot(program.run({"noise": inputs["noise"] + 1}))
    assert np.array_equal(first["next_state"], again["next_state"])
    assert not np.array_equal(first["next_state"], other["next_state"])


def test_an_input_is_copied_so_that_the_caller_may_change_it_afterwards(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    expected = snapshot(program.run(inputs))
    program.bind(inputs)
    inputs["state"][:] = 0
    assert np.array_equal(program.run({})["next_state"], expected["next_state"])


def test_an_input_need_not_be_contiguous(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    expected = snapshot(program.run(inputs))
    strided = np.asfortranarray(inputs["state"])
    assert np.array_equal(program.run({"state": strided})["next_state"], expected["next_state"])


def test_outputs_are_the_programs_own_buffers(make: Make) -> None:
    program = make()
    first = program.run(step_inputs(0))
    second = program.run(step_inputs(1))
    for name, value in first.items():
        assert np.shares_memory(value, second[name]), name


def test_a_carried_output_is_the_next_runs_input(make: Make) -> None:
    by_hand, carried = make(), make()
    inputs = step_inputs()
    expected = snapshot(by_hand.run(inputs))
    expected = snapshot(by_hand.run({"state": expected["next_state"]}))
    carried.carry("next_state", "state")
    carried.run(inputs)
    outputs = carried.run({})
    assert list(outputs) == ["prediction"]
    assert np.array_equal(outputs["prediction"], expected["prediction"])
    assert np.array_equal(whole(carried, "state"), expected["next_state"])


def test_a_carried_output_is_read_where_it_was_carried_to(make: Make) -> None:
    program = make()
    program.carry("next_state", "state")
    program.run(step_inputs())
    assert np.array_equal(whole(program, "next_state"), whole(program, "state"))


def test_binding_a_carried_input_begins_anew(make: Make) -> None:
    program = make()
    program.carry("next_state", "state")
    inputs = step_inputs()
    first = snapshot(program.run(inputs))
    program.run({})
    assert np.array_equal(program.run(inputs)["prediction"], first["prediction"])


def test_carrying_the_same_pair_twice_is_carrying_it_once(make: Make) -> None:
    once, twice = make(), make()
    for program, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            program.carry("next_state", "state")
        program.run(step_inputs())
        program.run({})
    assert np.array_equal(whole(once, "state"), whole(twice, "state"))


def test_a_row_that_is_put_replaces_that_row_alone(make: Make) -> None:
    program, expected = make(), make()
    program.carry("next_state", "state")
    expected.carry("next_state", "state")
    inputs = step_inputs()
    program.run(inputs)
    state = whole(program, "state")
    state[1] = step_inputs(5)["state"][0]
    program.put("state", 1, state[1])
    assert np.array_equal(whole(program, "state"), state)
    program.run({})
    expected.run(inputs | {"state": state})
    assert np.array_equal(whole(program, "state"), whole(expected, "state"))


def test_a_row_that_was_got_is_a_copy(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    program.run(inputs)
    program.get("state", 0)[:] = 0
    program.get("prediction", 0)[:] = 0
    assert np.array_equal(program.get("state", 0), inputs["state"][0])
    assert program.get("prediction", 0).any()


def test_a_bound_input_can_be_read_before_the_first_run(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    program.bind(inputs)
    assert np.array_equal(program.get("state", 1), inputs["state"][1])


@pytest.mark.parametrize("neighbour", [0.0, 1.0, 1e4, np.nan])
def test_a_row_does_not_depend_on_its_neighbour_by_one_bit(make: Make, neighbour: float) -> None:
    program = make()
    inputs, others = step_inputs(0), step_inputs(1)
    expected = snapshot(program.run(inputs))
    mixed = {name: value.copy() for name, value in inputs.items()}
    for name, value in others.items():
        mixed[name][1] = value[1] * np.float32(neighbour)
    found = program.run(mixed)
    for name, value in expected.items():
        assert np.array_equal(found[name][0], value[0]), name


def test_a_picture_is_the_same_in_either_row(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    first = snapshot(program.run(inputs))
    second = program.run({name: value[::-1] for name, value in inputs.items()})
    for name, value in first.items():
        assert np.array_equal(second[name][::-1], value), name


def test_nothing_is_allocated_after_load(make: Make) -> None:
    program = make()
    program.carry("next_state", "state")
    buffers = cast(BufferedProgram, program)._buffers
    before = {name: address(buffer.read()) for name, buffer in buffers.items()}
    seen: dict[str, set[int]] = {name: set() for name in buffers}
    program.run(step_inputs())
    for _ in range(4):
        program.run({"noise": step_inputs(3)["noise"]})
        for name, buffer in buffers.items():
            seen[name].add(address(buffer.read()))
    swapped = {before["state"], before["next_state"]}
    expected = {name: {place} for name, place in before.items()} | {"state": swapped, "next_state": swapped}
    assert seen == expected


def address(array: Array) -> int:
    return array.__array_interface__["data"][0]


def test_the_identity_row_gives_the_state_back_bit_for_bit(make: Make) -> None:
    program = make()
    inputs = step_inputs() | {"write": identity()}
    inputs["state"] *= np.float32(1 / 3)
    assert np.array_equal(program.run(inputs)["next_state"], inputs["state"])


def test_the_solver_is_float32(make: Make) -> None:
    program = make()
    inputs = step_inputs()
    outputs = program.run(inputs)
    slots = np.concatenate(
        [inputs["state"], outputs["prediction"][:, None], inputs["noise"][:, None]], axis=1
    )
    expected = np.einsum("bst,bt...->bs...", inputs["write"].astype(np.float64), slots.astype(np.float64))
    error = np.linalg.norm(outputs["next_state"] - expected) / np.linalg.norm(expected)
    assert error < 2e-7


def test_the_sample_is_mixed_in_float32_before_the_unet_sees_it(make: Make) -> None:
    """In bf16, 1000 + small - 1000 would be 0 and not small."""
    program = make()
    inputs = step_inputs()
    small = np.round(inputs["noise"] * 256) / np.float32(256)
    alone, offset = (inputs | {"state": np.zeros_like(inputs["state"])} for _ in range(2))
    alone["state"][:, 0] = small
    offset["state"][:, 0], offset["state"][:, 1] = small + 1000, 1000
    difference = np.repeat(np.array([[1, -1, 0]], np.float32), 2, axis=0)
    expected = snapshot(program.run(alone | {"read": difference}))
    found = program.run(offset | {"read": difference})
    assert np.array_equal(found["prediction"], expected["prediction"])


def test_the_timestep_is_not_rounded_so_that_999_and_1000_differ_as_in_float32(make: Make) -> None:
    def difference(program: Program) -> Array:
        inputs = step_inputs(batch=1)
        earlier = program.run(inputs | {"time_features": features(999.0)})["prediction"].copy()
        return program.run({"time_features": features(1000.0)})["prediction"] - earlier

    exact, found = difference(make("fp32", batch=1)), difference(make(batch=1))
    assert np.abs(exact).max() > 1e-3
    assert np.linalg.norm(found - exact) < 0.1 * np.linalg.norm(exact)


def test_two_programs_in_two_threads_give_what_they_give_one_after_the_other(make: Make) -> None:
    programs, inputs = [make(), make()], [step_inputs(0), step_inputs(1)]
    results: dict[tuple[str, int], Array] = {}

    def draw(when: str, index: int) -> None:
        programs[index].run(inputs[index])
        for _ in range(20):
            programs[index].run({"write": identity()})
        results[when, index] = whole(programs[index], "state")

    for program in programs:
        program.carry("next_state", "state")
    for index in range(2):
        draw("alone", index)
    threads = [threading.Thread(target=draw, args=("together", index)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        assert np.array_equal(results["together", index], results["alone", index])


def test_programs_of_two_batch_sizes_share_one_data_file(make: Make) -> None:
    one, two = make(batch=1), make(batch=2)
    assert one.spec.files[1] == two.spec.files[1]
    inputs = step_inputs()
    pair = snapshot(two.run(inputs))
    for row in range(2):
        single = one.run({name: value[row : row + 1] for name, value in inputs.items()})
        assert np.allclose(single["prediction"][0], pair["prediction"][row], rtol=0, atol=0.02)


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


def test_closing_releases_the_engine(make: Make) -> None:
    program = make()
    engine = weakref.ref(cast(BufferedProgram, program)._engine)
    program.close()
    gc.collect()
    assert engine() is None


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
