"""What happens between two rows: a callback's latents, its errors, cancellation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calotype import CancelledError, Conditions, Pipeline, RequestError, noise
from tests.engine.tiny import PROMPT, latents_of, pipeline_of

Array = NDArray[Any]


def test_a_callback_sees_every_row_and_its_latents_are_honoured() -> None:
    seen: list[tuple[int, float]] = []

    def callback(_: Pipeline, row: int, timestep: float, values: dict[str, Array]) -> dict[str, Array]:
        seen.append((row, timestep))
        return {"latents": np.zeros_like(values["latents"])} if row == 3 else values

    latents = latents_of("plain", scheduler="ddim", callback_on_step_end=callback, seed=1)

    assert [row for row, _ in seen] == [0, 1, 2, 3]
    assert not latents.any()


def test_a_callback_is_told_which_pictures_its_latents_are_of() -> None:
    seen: list[tuple[int, list[int], int]] = []

    def callback(_: Pipeline, row: int, __: float, values: dict[str, Array]) -> dict[str, Array]:
        seen.append((row, values["pictures"].tolist(), len(values["latents"])))
        values["latents"][values["pictures"] == 2] = 0.0
        return values

    arguments: dict[str, Any] = {"scheduler": "ddim", "num_images_per_prompt": 3, "seed": 1}
    found = latents_of("plain", num_inference_steps=2, callback_on_step_end=callback, **arguments)

    assert seen == [(0, [0, 1], 2), (1, [0, 1], 2), (0, [2], 1), (1, [2], 1)]
    np.testing.assert_array_equal(found[:2], latents_of("plain", num_inference_steps=2, **arguments)[:2])
    assert not found[2].any()


def test_a_callback_that_only_looks_changes_nothing() -> None:
    looked = latents_of("plain", seed=1, callback_on_step_end=lambda *_: None)

    np.testing.assert_array_equal(looked, latents_of("plain", seed=1))


def test_a_cancelled_request_stops_between_two_steps() -> None:
    cancel = threading.Event()

    def callback(_: Pipeline, row: int, *__: Any) -> None:
        if row == 1:
            cancel.set()

    with pytest.raises(CancelledError, match="cancelled before row 2 of 5"):
        latents_of("plain", callback_on_step_end=callback, cancel=cancel)


def test_a_request_can_be_cancelled_without_a_callback() -> None:
    cancel = threading.Event()
    cancel.set()

    with pytest.raises(CancelledError, match="cancelled before row 0 of 5"):
        latents_of("plain", cancel=cancel)


def test_progress_tells_the_row_that_comes_next() -> None:
    seen: list[tuple[int, int]] = []
    latents_of("plain", scheduler="ddim", progress=lambda row, rows: seen.append((row, rows)))

    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_latents_that_a_callback_changes_leave_the_solvers_memory_as_it_is() -> None:
    def halved(_: Pipeline, __: int, ___: float, values: dict[str, Array]) -> None:
        values["latents"] *= 0.5

    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(4, scheduler="dpmpp_2m")
    draw = noise.generator(1).normal((1, *pipeline.manifest.latent_shape))
    state = pipeline.initial_state(draw * np.float32(schedule.init_noise_sigma))
    for row in range(len(schedule)):
        state = pipeline.step(schedule, row, state, Conditions(pipeline.encode_prompt(PROMPT)))
        state[:, 0] *= np.float32(0.5)

    found = latents_of("plain", seed=1, scheduler="dpmpp_2m", callback_on_step_end=halved)
    np.testing.assert_array_equal(found, state[:, 0])


@pytest.mark.parametrize("returns", [True, False], ids=["returned", "not returned"])
def test_latents_changed_in_place_are_honoured(returns: bool) -> None:
    def halved(_: Pipeline, __: int, ___: float, values: dict[str, Array]) -> dict[str, Array] | None:
        values["latents"] *= 0.5
        return values if returns else None

    def replaced(_: Pipeline, __: int, ___: float, values: dict[str, Array]) -> dict[str, Array]:
        return {"latents": values["latents"] * np.float32(0.5)}

    found = latents_of("plain", seed=1, callback_on_step_end=halved)

    np.testing.assert_array_equal(found, latents_of("plain", seed=1, callback_on_step_end=replaced))
    assert np.abs(found - latents_of("plain", seed=1)).max() > 0.1


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ({"prompt": np.zeros(1)}, r"\['prompt'\]"),
        ({"latents": np.zeros((1, 2))}, r"latents of \(1, 2\)"),
        (np.zeros((1, 2)), "ndarray"),
    ],
)
def test_a_callback_that_returns_something_else_is_refused(returned: Any, found: str) -> None:
    with pytest.raises(
        RequestError, match=rf"`callback_on_step_end`: expected \{{'latents': array of .* found {found}"
    ):
        latents_of("plain", seed=1, callback_on_step_end=lambda *_: returned)


def test_a_callback_may_decode_and_encode() -> None:
    pictures: list[Array] = []

    def callback(pipeline: Pipeline, _: int, __: float, values: dict[str, Array]) -> None:
        pictures.append(pipeline.decode_latents(values["latents"]))
        pipeline.encode_prompt("something else")
        pipeline.encode_image(pictures[-1])

    found = latents_of("plain", seed=1, callback_on_step_end=callback)

    np.testing.assert_array_equal(found, latents_of("plain", seed=1))
    np.testing.assert_array_equal(pictures[-1], pipeline_of("plain").decode_latents(found))


def drawing(pipeline: Pipeline) -> None:
    pipeline(PROMPT, num_inference_steps=1)


def stepping(pipeline: Pipeline) -> None:
    state = pipeline.initial_state(np.zeros((1, *pipeline.manifest.latent_shape), np.float32))
    pipeline.step(pipeline.schedule(1), 0, state, Conditions(pipeline.encode_prompt(PROMPT)))


@pytest.mark.parametrize("asks", [drawing, stepping])
def test_a_callback_that_denoises_with_its_own_pipeline_is_refused(asks: Callable[[Pipeline], None]) -> None:
    with pytest.raises(RequestError, match="a callback of a request that it is denoising"):
        latents_of("plain", callback_on_step_end=lambda pipeline, *_: asks(pipeline))

    asks(pipeline_of("plain"))  # it can be used again afterwards
