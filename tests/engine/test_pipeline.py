"""The pipeline over real tiny bundles, without torch: what it returns, how it comes apart, what it refuses."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calotype import BackendError, Pipeline, Request, RequestError
from tests.bundles import bundle
from tests.engine.tiny import PROMPT, latents_of, picture, pipeline_of

Array = NDArray[Any]


def test_a_call_gives_pictures_seeds_timings_and_what_fell_off() -> None:
    result = pipeline_of("plain")(PROMPT + " and more" * 80, num_inference_steps=3, seed=5)
    manifest = pipeline_of("plain").manifest

    assert result.images[0].size == (manifest.width, manifest.height)
    assert result.seeds == (5,)
    assert result.backend == "onnxruntime"
    assert result.evaluations == 4  # PNDM evaluates once more than there are steps
    assert result.truncated[0].endswith("and more")
    assert result.negative_truncated == ()
    assert result.nsfw_content_detected is not None
    assert sum(value for name, value in result.timings.items() if name != "total") == pytest.approx(
        result.timings["total"]
    )
    assert result.parameters["seed"] == 5


def test_what_fell_off_a_negative_prompt_is_told_too() -> None:
    result = pipeline_of("plain")(PROMPT, negative_prompt=" bad" * 200, num_inference_steps=1, seed=5)

    assert result.truncated == ("",)
    assert result.negative_truncated[0].endswith("bad")


def test_the_same_seed_draws_the_same_picture_and_another_does_not() -> None:
    first, again, other = (latents_of("plain", seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_without_a_seed_the_one_that_was_chosen_draws_the_picture_again() -> None:
    result = pipeline_of("plain")(PROMPT, num_inference_steps=2, output_type="latent")

    np.testing.assert_array_equal(
        latents_of("plain", num_inference_steps=2, seed=result.seeds[0]), result.images
    )


def test_a_listed_seeds_picture_does_not_depend_on_its_neighbours() -> None:
    together = latents_of("plain", scheduler="euler_a", num_images_per_prompt=3, seed=[1, 2, 3])
    alone = latents_of("plain", scheduler="euler_a", seed=[3])

    np.testing.assert_array_equal(together[2], alone[0])


def test_an_estimated_depth_given_back_draws_the_same_picture() -> None:
    pipeline = pipeline_of("depth")
    depth = pipeline.estimate_depth(picture("depth"))

    given = latents_of("depth", image=picture("depth"), depth_map=depth, seed=1)
    np.testing.assert_array_equal(given, latents_of("depth", image=picture("depth"), seed=1))


def test_a_depth_map_alone_is_drawn_from_noise() -> None:
    assert np.isfinite(latents_of("depth", depth_map=np.eye(40, dtype=np.float32), seed=1)).all()


def test_five_pictures_run_in_chunks_of_the_bundles_batches() -> None:
    arguments: dict[str, Any] = {
        "scheduler": "dpmpp_2m_sde",
        "num_images_per_prompt": 5,
        "seed": [1, 2, 3, 4, 5],
    }
    chunked = latents_of("plain", **arguments)

    assert chunked.shape[0] == 5
    for index in range(5):
        alone = latents_of("plain", scheduler="dpmpp_2m_sde", seed=[index + 1])
        np.testing.assert_allclose(chunked[index], alone[0], atol=2e-5)


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


def test_pictures_that_do_not_fill_a_batch_are_what_they_are_alone() -> None:
    pairs = Pipeline.load(bundle("plain"), "onnxruntime", batches=[2], threads=1)
    arguments: dict[str, Any] = {
        "negative_prompt": "blurry",
        "scheduler": "euler_a",
        "num_inference_steps": 4,
    }
    prompts = [PROMPT, "a dog", "a cat"]
    found = pairs(prompts, seed=[1, 2, 3], output_type="latent", **arguments).images

    assert len(found) == 3
    for index, prompt in enumerate(prompts):
        alone = latents_of("plain", prompt=prompt, seed=[index + 1], **arguments)
        np.testing.assert_allclose(found[index], alone[0], atol=2e-5)


def test_parts_take_what_a_request_takes() -> None:
    pipeline = pipeline_of("plain")

    assert pipeline.schedule(4, scheduler="ddim", eta=0.5).draws.all()
    assert not pipeline.schedule(4, scheduler="ddim").draws.any()
    repeated = pipeline.encode_prompt(["a", "b"], num_images_per_prompt=2).prompt
    np.testing.assert_array_equal(repeated, pipeline.encode_prompt(["a", "a", "b", "b"]).prompt)


def test_a_flagged_picture_is_blackened_and_its_neighbour_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = iter([[False], [True]])
    monkeypatch.setattr("calotype.vision.flagged", lambda *_: next(flags))
    arguments: dict[str, Any] = {"num_inference_steps": 1, "seed": 1, "num_images_per_prompt": 2}
    found = pipeline_of("plain")(PROMPT, output_type="np", **arguments)

    assert found.nsfw_content_detected == [False, True]
    assert found.images[0].any() and not found.images[1].any()
