"""What every backend must do alike, and the fake that stands in for them."""

from __future__ import annotations

import gc
import weakref
from typing import cast

import numpy as np

from calotype.backends import Array
from calotype.backends._buffers import BufferedProgram
from calotype.manifest import TensorSpec
from calotype.tensor_files import narrowed
from tests.backends.contract_cases import (
    Make,
    snapshot,
    step_inputs,
    whole,
)
from tests.backends.step_programs import HIDDEN, C


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


def test_nothing_is_allocated_after_load(make_on_host: Make) -> None:
    program = make_on_host()
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


def test_a_sweep_is_one_run_after_the_other(make: Make) -> None:
    by_hand, swept = make(), make()
    rows = [{name: step_inputs(seed)[name] for name in ("read", "write", "noise")} for seed in range(5)]
    del rows[2]["noise"], rows[4]["noise"]
    for program in (by_hand, swept):
        program.carry("next_state", "state")
    for _ in range(3):  # recorded and not
        for program in (by_hand, swept):
            program.bind(step_inputs(7))
        for row in rows:
            by_hand.run(row)
        swept.sweep(rows)
        swept.wait()
        assert np.array_equal(whole(swept, "state"), whole(by_hand, "state"))
        assert np.array_equal(whole(swept, "prediction"), whole(by_hand, "prediction"))


def test_sweeps_that_nobody_waits_for_in_between_keep_their_own_rows(make: Make) -> None:
    by_hand, swept = make(), make()
    for program in (by_hand, swept):
        program.carry("next_state", "state")
        program.run(step_inputs(7))
    for first in range(3):
        rows = [{"noise": step_inputs(10 * first + seed)["noise"]} for seed in range(3)]
        swept.sweep(rows)
        for row in rows:
            by_hand.run(row)
    assert np.array_equal(whole(swept, "state"), whole(by_hand, "state"))


def address(array: Array) -> int:
    return array.__array_interface__["data"][0]


def test_weights_that_were_replaced_are_kept_by_the_program(make_with_weights: Make) -> None:
    program = make_with_weights()
    dtype = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}[program.spec.precision]
    weight = np.ones((HIDDEN, C, 3, 3), np.float32)
    stored = weight.astype(dtype) if dtype != np.uint16 else narrowed(weight)
    plain = snapshot(program.run(step_inputs()))
    program.replace_weights({"conv_in_weight": stored})
    changed = snapshot(program.run(step_inputs()))
    del stored
    gc.collect()
    rubbish = [np.full((HIDDEN, C, 3, 3), 7, dtype) for _ in range(200)]
    again = snapshot(program.run(step_inputs()))
    program.replace_weights({})
    assert len(rubbish) == 200
    assert not np.allclose(changed["prediction"], plain["prediction"])
    assert np.array_equal(again["prediction"], changed["prediction"])
    assert np.array_equal(program.run(step_inputs())["prediction"], plain["prediction"])


def test_closing_releases_the_engine(make_on_host: Make) -> None:
    program = make_on_host()
    engine = weakref.ref(cast(BufferedProgram, program)._engine)
    program.close()
    gc.collect()
    assert engine() is None
