"""What every backend must compute alike: rows that stand alone, and a solver in float32."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from calotype.backends import Array, Program
from tests.backends.contract_cases import (
    Make,
    features,
    identity,
    snapshot,
    step_inputs,
    whole,
)


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
    bound = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 4e-2}[
        one.spec.precision
    ]  # some roundings of numbers below 4
    assert one.spec.files[1] == two.spec.files[1]
    inputs = step_inputs()
    pair = snapshot(two.run(inputs))
    for row in range(2):
        single = one.run({name: value[row : row + 1] for name, value in inputs.items()})
        assert np.allclose(single["prediction"][0], pair["prediction"][row], rtol=0, atol=bound)
