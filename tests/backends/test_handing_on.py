"""Rows that one program hands on to another: copies that stay where programs run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import Pipeline
from calotype.backends import _cuda
from calotype.errors import BackendError
from tests.backends.contract_cases import Make, draw, step_inputs, whole
from tests.backends.step_programs import C, H, S, W
from tests.standin.cuda import Cuda, Work


def test_what_was_kept_outlasts_the_next_run_and_the_program(make: Make) -> None:
    program = make()
    program.run(step_inputs())
    expected = program.get("prediction", 1)
    row, channel = program.keep("prediction", 1), program.keep("prediction", 1, 2)
    program.run(step_inputs(1))
    assert not np.array_equal(program.get("prediction", 1), expected)
    program.close()
    assert np.array_equal(np.asarray(row), expected)
    assert np.array_equal(np.asarray(channel), expected[2])
    assert (channel.shape, channel.dtype) == ((H, W), np.float32)
    assert np.asarray(channel, np.float64).dtype == np.float64


def test_a_carried_output_is_kept_where_it_was_carried_to(make: Make) -> None:
    program = make()
    program.carry("next_state", "state")
    program.launch(step_inputs())
    kept = program.keep("next_state", 0, 1)
    assert np.array_equal(np.asarray(kept), program.get("state", 0)[1])


def test_launching_is_running_without_outputs(make: Make) -> None:
    launched, ran = make(), make()
    for _ in range(3):
        launched.launch(step_inputs())
        ran.run(step_inputs())
    assert np.array_equal(whole(launched, "prediction"), whole(ran, "prediction"))


def test_kept_rows_are_inputs_of_another_program_beside_rows_of_the_host(make: Make) -> None:
    giving, taking, expected = make(), make(), make()
    for program in (giving, taking, expected):
        program.bind(step_inputs())
    giving.launch({})
    given = giving.get("next_state", 1)
    for _ in range(3):  # memory of rows that are gone is used again
        taking.launch({"state": [step_inputs(4)["state"][0], giving.keep("next_state", 1)]})
        giving.launch({})
    expected.run({"state": np.stack([step_inputs(4)["state"][0], given])})
    assert np.array_equal(whole(taking, "prediction"), whole(expected, "prediction"))


def test_a_row_of_another_load_is_taken_when_it_is_there(make: Make) -> None:
    giving, taking, expected = make(), make(), make()
    for program in (taking, expected):
        program.run(step_inputs())
    for seed in (3, 4):
        giving.launch(step_inputs(seed))
        state = step_inputs(seed)["state"]
        taking.launch({"state": [state[0], giving.keep("next_state", 1)]})
        found = whole(taking, "prediction")
        expected.run({"state": np.stack([state[0], giving.get("next_state", 1)])})
        assert np.array_equal(found, whole(expected, "prediction"))


def test_an_output_that_is_carried_only_after_some_runs_is_the_next_runs_input(make: Make) -> None:
    late, early = make(), make()
    early.carry("next_state", "state")
    for _ in range(3):  # on a GPU, what was recorded knows of no carrying
        late.run(step_inputs())
    late.carry("next_state", "state")
    for program in (late, early):
        program.bind(step_inputs())
        for _ in range(3):
            program.run({})
    assert np.array_equal(whole(late, "state"), whole(early, "state"))


def test_rows_that_do_not_make_the_tensor_are_refused(make: Make) -> None:
    program = make()
    program.bind(step_inputs())
    row = np.zeros((S, C, H, W), np.float32)
    with pytest.raises(BackendError, match=r"input `state`: expected 2 rows, found 3"):
        program.bind({"state": [row] * 3})
    with pytest.raises(BackendError, match=r"row 1 of input `state`: expected .*, found float32 \(4, 8, 8\)"):
        program.bind({"state": [row, row[0]]})
    assert np.array_equal(whole(program, "state"), step_inputs()["state"])


def test_what_is_not_there_cannot_be_kept(make: Make) -> None:
    program = make()
    with pytest.raises(BackendError, match=r"output `prediction` is empty before the first run"):
        program.keep("prediction", 0)
    program.launch(step_inputs())
    with pytest.raises(BackendError, match=r"`prediction` has rows 0 to 1, found row 2"):
        program.keep("prediction", 2)
    with pytest.raises(BackendError, match=r"`prediction` has rows 0 to 3, found row 4, in axis 1"):
        program.keep("prediction", 0, C)


def runs(queue: Sequence[Work]) -> int:
    """How many runs of programs wait in a queue of the stand-in."""
    return sum("execute_async" in work.__qualname__ for work in queue)


REQUESTS: dict[str, dict[str, Any]] = {
    "text": {},
    "noise in every row": {"scheduler": "euler_a"},
    "three pictures on programs of two and one": {"seed": [1, 2, 3], "num_images_per_prompt": 3},
    "three prompts": {"prompt": ["a cat", "a dog", "a bird"], "negative_prompt": "rain"},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_gpu_is_never_left_without_work_before_all_of_a_request_is_launched(
    cuda: Cuda, backend: str, root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    for _ in range(2):  # what this kind of request needs is made
        draw(pipeline, **REQUESTS[name])
    seen: list[str] = []
    call, run = _cuda.Device.call, Cuda._run

    def logged(device: _cuda.Device, name: str, *arguments: Any) -> Any:
        seen.append(arguments[3].name if name == "cudaMemcpyAsync" else name)
        return call(device, name, *arguments)

    def waiting(stand_in: Cuda, stream: int, until: Work | None = None) -> None:
        before = runs(stand_in._queues[stream])
        run(stand_in, stream, until)
        if before and not runs(stand_in._queues[stream]):
            seen.append("idle")

    monkeypatch.setattr(_cuda.Device, "call", logged)
    monkeypatch.setattr(Cuda, "_run", waiting)
    pictures = len(draw(pipeline, **REQUESTS[name]))

    decoded = [index for index, what in enumerate(seen) if what == "cudaGraphLaunch"][-pictures - 1]
    assert seen.index("idle") > decoded  # what is launched later checks the pictures
    assert seen.index("cudaMemcpyDeviceToHost") > decoded


def test_the_gpus_clock_counts_what_a_callback_decodes_for_its_own_program(
    cuda: Cuda, backend: str, root: Path
) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")

    def decode(drawing: Pipeline, _: int, __: float, values: dict[str, Any]) -> None:
        drawing.decode_latents(values["latents"])

    def seconds(**changes: Any) -> dict[str, float]:
        request: dict[str, Any] = {"num_inference_steps": 3, "scheduler": "ddim", "seed": 5} | changes
        return dict(pipeline("a red circle", **request).device_timings)

    for changes in ({"progress": lambda *_: None}, {"callback_on_step_end": decode}):
        seconds(**changes)  # what is recorded is recorded
    plain, decoding = seconds(progress=lambda *_: None), seconds(callback_on_step_end=decode)
    assert decoding["vae_decoder"] == pytest.approx((3 + 1) * plain["vae_decoder"])
    assert decoding["unet_step"] == pytest.approx(plain["unet_step"])
