"""The pipeline over real tiny bundles, without torch: what it returns, how it comes apart, what it refuses."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from calotype import BackendError, CancelledError, Conditions, Pipeline, Request, RequestError, noise
from numpy.typing import NDArray
from PIL import Image

from tests.bundles import bundle

Array = NDArray[Any]
PROMPT = "a red circle on a blue wall"


@cache
def pipeline_of(name: str) -> Pipeline:
    return Pipeline.load(bundle(name), "onnxruntime", threads=1)


def latents_of(name: str, **arguments: Any) -> Array:
    return pipeline_of(name)(**{"prompt": PROMPT, "num_inference_steps": 4, "output_type": "latent"} | arguments).images


def picture(name: str = "plain") -> Image.Image:
    manifest = pipeline_of(name).manifest
    values = np.linspace(0, 255, manifest.height * manifest.width * 3)
    return Image.fromarray(values.reshape(manifest.height, manifest.width, 3).astype(np.uint8))


def mask(name: str = "plain") -> Image.Image:
    drawn = np.zeros(picture(name).size[::-1], np.uint8)
    drawn[: len(drawn) // 2] = 255
    return Image.fromarray(drawn)


def test_a_call_gives_pictures_seeds_timings_and_what_fell_off() -> None:
    result = pipeline_of("plain")(PROMPT + " and more" * 80, num_inference_steps=3, seed=5)
    manifest = pipeline_of("plain").manifest

    assert result.images[0].size == (manifest.width, manifest.height)
    assert result.seeds == (5,)
    assert result.backend == "onnxruntime"
    assert result.evaluations == 4  # PNDM evaluates once more than there are steps
    assert result.truncated[0].endswith("and more")
    assert result.nsfw_content_detected is not None
    assert sum(value for name, value in result.timings.items() if name != "total") == pytest.approx(
        result.timings["total"]
    )
    assert result.parameters["seed"] == 5


def test_the_same_seed_draws_the_same_picture_and_another_does_not() -> None:
    first, again, other = (latents_of("plain", seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_without_a_seed_the_one_that_was_chosen_draws_the_picture_again() -> None:
    result = pipeline_of("plain")(PROMPT, num_inference_steps=2, output_type="latent")

    np.testing.assert_array_equal(latents_of("plain", num_inference_steps=2, seed=result.seeds[0]), result.images)


def test_a_listed_seeds_picture_does_not_depend_on_its_neighbours() -> None:
    together = latents_of("plain", scheduler="euler_a", num_images_per_prompt=3, seed=[1, 2, 3])
    alone = latents_of("plain", scheduler="euler_a", seed=[3])

    np.testing.assert_array_equal(together[2], alone[0])


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "euler_a", "heun"])
def test_a_loop_written_by_hand_draws_the_pipelines_picture_bit_for_bit(scheduler: str) -> None:
    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(4, scheduler=scheduler)
    generator = noise.generator(42)
    shape = (1, *pipeline.manifest.latent_shape)
    conditions = Conditions(pipeline.encode_prompt(PROMPT, "blurry"), guidance_scale=8)

    state = pipeline.initial_state(generator.normal(shape) * np.float32(schedule.init_noise_sigma))
    draws = {row: generator.normal(shape) for row in range(len(schedule)) if schedule.draws[row]}
    for row in range(len(schedule)):
        state = pipeline.step(schedule, row, state, conditions, draws.get(row))
    by_hand = pipeline.decode_latents(state[:, 0])

    called = pipeline(
        PROMPT, negative_prompt="blurry", num_inference_steps=4, guidance_scale=8, seed=42, scheduler=scheduler,
        output_type="latent",
    )  # fmt: skip
    np.testing.assert_array_equal(state[:, 0], called.images)
    np.testing.assert_array_equal(by_hand, pipeline.decode_latents(called.images))


def test_an_image_to_image_loop_by_hand_draws_the_pipelines_picture_bit_for_bit() -> None:
    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(5, strength=0.6)
    generator = noise.generator(3)
    original = pipeline.encode_image(picture(), generator)
    kept, added = (np.float32(weight) for weight in schedule.add_noise)
    state = pipeline.initial_state(kept * original + added * generator.normal(original.shape))
    conditions = Conditions(pipeline.encode_prompt(PROMPT))
    for row in range(len(schedule)):
        state = pipeline.step(schedule, row, state, conditions)

    called = latents_of("plain", image=picture(), strength=0.6, num_inference_steps=5, seed=3)
    np.testing.assert_array_equal(state[:, 0], called)


def test_an_estimated_depth_given_back_draws_the_same_picture() -> None:
    pipeline = pipeline_of("depth")
    depth = pipeline.estimate_depth(picture("depth"))

    given = latents_of("depth", image=picture("depth"), depth_map=depth, seed=1)
    np.testing.assert_array_equal(given, latents_of("depth", image=picture("depth"), seed=1))


def test_a_depth_map_alone_is_drawn_from_noise() -> None:
    assert np.isfinite(latents_of("depth", depth_map=np.eye(40, dtype=np.float32), seed=1)).all()


def test_a_step_that_takes_noise_says_so() -> None:
    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(3, scheduler="euler_a")
    state = pipeline.initial_state(np.zeros((1, *pipeline.manifest.latent_shape), np.float32))

    with pytest.raises(RequestError, match="takes noise, found none"):
        pipeline.step(schedule, 0, state, Conditions(pipeline.encode_prompt(PROMPT)))


def test_conditions_with_an_input_that_the_step_lacks_are_refused() -> None:
    pipeline = pipeline_of("plain")
    latents = np.zeros((1, *pipeline.manifest.latent_shape), np.float32)
    conditions = Conditions(pipeline.encode_prompt(PROMPT), extras={"depth": latents[:, :1]})

    with pytest.raises(RequestError, match="takes no `depth`; it takes state, read"):
        pipeline.step(pipeline.schedule(3), 0, pipeline.initial_state(latents), conditions)


def test_five_pictures_run_in_chunks_of_the_bundles_batches() -> None:
    arguments: dict[str, Any] = {"scheduler": "dpmpp_2m_sde", "num_images_per_prompt": 5, "seed": [1, 2, 3, 4, 5]}
    chunked = latents_of("plain", **arguments)

    assert chunked.shape[0] == 5
    for index in range(5):
        alone = latents_of("plain", scheduler="dpmpp_2m_sde", seed=[index + 1])
        np.testing.assert_allclose(chunked[index], alone[0], atol=2e-5)


def test_a_callback_sees_every_row_and_its_latents_are_honoured() -> None:
    seen: list[tuple[int, float]] = []

    def callback(_: Pipeline, row: int, timestep: float, values: dict[str, Array]) -> dict[str, Array]:
        seen.append((row, timestep))
        return {"latents": np.zeros_like(values["latents"])} if row == 3 else values

    latents = latents_of("plain", scheduler="ddim", callback_on_step_end=callback, seed=1)

    assert [row for row, _ in seen] == [0, 1, 2, 3]
    assert not latents.any()


def test_a_callback_that_only_looks_changes_nothing() -> None:
    looked = latents_of("plain", seed=1, callback_on_step_end=lambda *_: None)

    np.testing.assert_array_equal(looked, latents_of("plain", seed=1))


@pytest.mark.parametrize("returned", [{"prompt": np.zeros(1)}, {"latents": np.zeros((1, 2))}])
def test_a_callback_that_returns_something_else_is_refused(returned: dict[str, Array]) -> None:
    with pytest.raises(RequestError, match="`callback_on_step_end`: expected {'latents': array of"):
        latents_of("plain", seed=1, callback_on_step_end=lambda *_: returned)


def test_a_cancelled_request_stops_between_two_steps() -> None:
    cancel = threading.Event()

    def callback(_: Pipeline, row: int, *__: Any) -> None:
        if row == 1:
            cancel.set()

    with pytest.raises(CancelledError, match="cancelled before row 2 of 5"):
        latents_of("plain", callback_on_step_end=callback, cancel=cancel)


def test_clip_skip_reaches_every_hidden_state_and_no_further() -> None:
    layers = pipeline_of("plain").manifest.program("text_encoder")
    assert layers is not None
    count = layers.output("hidden_states").shape[1]
    embeddings = [pipeline_of("plain").encode_prompt(PROMPT, clip_skip=skip).prompt for skip in range(count)]

    for index in range(count - 1):
        assert np.abs(embeddings[index] - embeddings[index + 1]).max() > 1e-3
    with pytest.raises(RequestError, match=f"`clip_skip`: expected at most {count - 1}"):
        pipeline_of("plain").encode_prompt(PROMPT, clip_skip=count)


def test_two_pipelines_in_two_threads_draw_what_they_draw_one_after_the_other() -> None:
    pipelines = [Pipeline.load(bundle("plain"), "onnxruntime", threads=1) for _ in range(2)]

    def draw(index: int) -> Array:
        return pipelines[index % 2](PROMPT, num_inference_steps=4, seed=index, output_type="latent").images

    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(draw, range(6)))
    for index, latents in enumerate(together):
        np.testing.assert_array_equal(latents, draw(index))


def test_one_pipeline_called_from_two_threads_queues() -> None:
    pipeline = pipeline_of("plain")

    def draw(seed: int) -> Array:
        return pipeline(PROMPT, num_inference_steps=4, seed=seed, output_type="latent").images

    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(draw, range(6)))
    for seed, latents in enumerate(together):
        np.testing.assert_array_equal(latents, draw(seed))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("plain", {"heigth": 64}, "did you mean `height`?"),
    ("plain", {"height": 1024}, "this bundle draws"),
    ("plain", {"depth_map": np.ones((4, 4))}, "`depth_map` was given, but this bundle can use none"),
    ("plain", {"image": Image.new("RGB", (64, 64)), "strength": 0.1}, "leaves no step to draw"),
    ("plain", {"image": Image.new("RGB", (64, 64)), "mask_prompt": "sky"}, "this bundle has no segmenter"),
    ("plain", {"latents": np.zeros((1, 1))}, "`latents`: expected finite numbers of shape (1, 4,"),
    ("plain", {"prompt": None, "prompt_embeds": np.zeros((1, 3))}, "`prompt_embeds`: expected finite numbers (n, *"),
    ("plain", {"negative_prompt_embeds": np.zeros((1, 3))}, "`negative_prompt_embeds`: expected the prompt's shape"),
    ("plain", {"prompt": ["a", "b", "c"], "image": [Image.new("RGB", (64, 64))] * 2}, "`image`: expected a number"),
    ("plain", {"scheduler": "eulr"}, "euler"),
    ("depth", {"image": Image.new("RGB", (64, 64)), "mask_image": Image.new("L", (64, 64))}, "can use none"),
    ("depth", {}, "this bundle needs `image` or `depth_map`"),
    ("depth", {"depth_map": np.full((4, 4), np.nan)}, "`depth_map`: expected finite numbers"),
    ("inpainting", {}, "this bundle needs `image` and `mask_image`"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_what_a_bundle_cannot_do_is_refused_by_name(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        latents_of(name, **arguments)

    assert message in str(caught.value)


def test_depth_cannot_be_estimated_without_an_estimator() -> None:
    with pytest.raises(RequestError, match="has no depth_estimator"):
        pipeline_of("plain").estimate_depth(picture())


def test_batches_that_the_bundle_lacks_are_refused() -> None:
    with pytest.raises(BackendError, match=r"has step programs for \[1, 2\], found \[3\]"):
        Pipeline.load(bundle("plain"), "onnxruntime", batches=(3,))


def test_latents_that_are_not_finite_are_an_error() -> None:
    def callback(_: Pipeline, row: int, __: float, values: dict[str, Array]) -> dict[str, Array]:
        return {"latents": np.full_like(values["latents"], np.nan)}

    with pytest.raises(BackendError, match="unet_step: the latents hold NaN or infinity"):
        latents_of("plain", callback_on_step_end=callback)


def test_a_picture_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(BackendError, match="vae_decoder: the picture holds NaN"):
        pipeline_of("plain").decode_latents(np.full((1, *pipeline_of("plain").manifest.latent_shape), np.nan))


def test_a_request_made_beforehand_draws_the_same() -> None:
    request = Request(prompt=PROMPT, num_inference_steps=4, seed=9, output_type="latent")

    np.testing.assert_array_equal(pipeline_of("plain")(request).images, latents_of("plain", seed=9))


def test_a_closed_pipeline_refuses() -> None:
    pipeline = Pipeline.load(bundle("unguided"), "onnxruntime")
    pipeline.close()

    with pytest.raises(BackendError, match="closed"):
        pipeline(PROMPT, num_inference_steps=1)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_whole_generation_loads_none_of_torch_diffusers_and_transformers(backend: str) -> None:
    program = f"""
import sys, calotype
pipeline = calotype.Pipeline.load({str(bundle("plain"))!r}, {backend!r})
pipeline("a cat", num_inference_steps=2, seed=1)
print(*sorted({{"torch", "diffusers", "transformers", "onnx", "scipy"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == ""


def test_backends_draw_the_same_picture() -> None:
    openvino = Pipeline.load(bundle("plain"), "openvino", threads=1)
    found = openvino(PROMPT, num_inference_steps=4, seed=1, output_type="latent").images

    np.testing.assert_allclose(found, latents_of("plain", seed=1), rtol=1e-3, atol=1e-3)
