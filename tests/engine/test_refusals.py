"""What the pipeline refuses, and by which message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype import BackendError, Conditions, Pipeline, Request, RequestError
from calotype.backends import Array
from calotype.text import TextEncoder
from tests.bundles import bundle
from tests.engine.tiny import PROMPT, latents_of, pipeline_of

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("plain", {"heigth": 64}, "did you mean `height`?"),
    ("plain", {"height": 1024}, "this bundle draws"),
    ("plain", {"depth_map": np.ones((4, 4))}, "`depth_map` was given, but this bundle can use none"),
    ("plain", {"image": Image.new("RGB", (64, 64)), "strength": 0.1}, "leaves no step to draw"),
    ("plain", {"image": Image.new("RGB", (64, 64)), "mask_prompt": "sky"}, "this bundle has no segmenter"),
    ("plain", {"latents": np.zeros((1, 1))}, "`latents`: expected finite numbers of shape (1, 4,"),
    (
        "plain",
        {"prompt": None, "prompt_embeds": np.zeros((1, 3))},
        "`prompt_embeds`: expected finite numbers of shape (n, 77, 32)",
    ),
    (
        "plain",
        {"prompt": None, "prompt_embeds": np.full((1, 77, 32), np.inf)},
        "`prompt_embeds`: expected finite numbers",
    ),
    (
        "plain",
        {"negative_prompt_embeds": np.zeros((1, 3))},
        "`negative_prompt_embeds`: expected finite numbers of shape (1, 77, 32)",
    ),
    (
        "plain",
        {"negative_prompt_embeds": np.zeros((2, 77, 32))},
        "`negative_prompt_embeds`: expected finite numbers of shape (1, 77, 32), found shape (2, 77, 32)",
    ),
    (
        "plain",
        {"prompt": ["a", "b", "c"], "image": [Image.new("RGB", (64, 64))] * 2},
        "`image`: expected a number",
    ),
    ("plain", {"latents": np.full((1, 4, 16, 16), np.nan)}, "with numbers that are not finite"),
    ("plain", {"scheduler": "eulr"}, "euler"),
    ("plain", {"scheduler": 5}, "`scheduler`: expected a name, found 5"),
    ("plain", {"callback_on_step_end": 5}, "`callback_on_step_end`: expected a function, found 5"),
    ("plain", {"progress": "bar"}, "`progress`: expected a function, found 'bar'"),
    ("plain", {"cancel": 3}, "`cancel`: expected a threading.Event, found 3"),
    ("depth", {"image": Image.new("RGB", (64, 64)), "mask_image": Image.new("L", (64, 64))}, "can use none"),
    ("depth", {}, "this bundle needs `image` or `depth_map`"),
    ("depth", {"depth_map": np.full((4, 4), np.nan)}, "`depth_map`: expected finite numbers"),
    ("inpainting", {}, "this bundle needs `image` and `mask_image`"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED]
)
def test_what_a_bundle_cannot_do_is_refused_by_name(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        latents_of(name, **arguments)

    assert message in str(caught.value)


def test_depth_cannot_be_estimated_without_an_estimator() -> None:
    with pytest.raises(RequestError, match="has no depth_estimator"):
        pipeline_of("plain").estimate_depth(Image.new("RGB", (64, 64)))


def test_batches_that_the_bundle_lacks_are_refused() -> None:
    with pytest.raises(BackendError, match=r"has step programs for \[1, 2\], found \[3\]"):
        Pipeline.load(bundle("plain"), "onnxruntime", batches=(3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "onnxruntime", "batches": 2}, "`batches`: expected a list of sizes, found 2"),
        ({"backend": 7}, "unknown backend 7"),
    ],
)
def test_loading_with_a_value_of_another_kind_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        Pipeline.load(bundle("plain"), **arguments)


@pytest.mark.parametrize("prompt", [None, 3, ["a", 3]])
def test_tokenizing_what_is_no_text_is_refused(prompt: Any) -> None:
    with pytest.raises(RequestError, match="`prompt`: expected a string or a list of them"):
        pipeline_of("plain").tokenize(prompt)


def test_a_seed_in_place_of_a_generator_is_refused() -> None:
    seed: Any = 42
    with pytest.raises(RequestError, match="`generator`: expected a Generator, found 42"):
        pipeline_of("plain").encode_image(Image.new("RGB", (64, 64)), seed)


def test_latents_that_are_not_finite_are_an_error() -> None:
    def callback(_: Pipeline, row: int, __: float, values: dict[str, Array]) -> dict[str, Array]:
        return {"latents": np.full_like(values["latents"], np.nan)}

    with pytest.raises(BackendError, match="unet_step: the latents hold NaN or infinity"):
        latents_of("plain", callback_on_step_end=callback)


def test_embeddings_that_are_not_finite_are_an_error_of_the_text_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(_: TextEncoder, wanted: list[tuple[str, int]]) -> list[Array]:
        return [np.full((77, 32), np.nan, np.float32) for _ in wanted]

    monkeypatch.setattr(TextEncoder, "encode", encode)
    for draws in (lambda: latents_of("plain"), lambda: pipeline_of("plain").encode_prompt(PROMPT)):
        with pytest.raises(BackendError, match="text_encoder: the embeddings hold NaN or infinity"):
            draws()


def test_a_picture_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(BackendError, match="vae_decoder: the picture holds NaN"):
        pipeline_of("plain").decode_latents(np.full((1, *pipeline_of("plain").manifest.latent_shape), np.nan))


def test_infinity_in_a_picture_is_an_error_and_so_is_one_black_picture_of_two() -> None:
    vae = pipeline_of("plain")._loaded.senses.vae
    grey, black, endless = (np.full((8, 8, 3), value, np.float32) for value in (0.5, 0.0, np.inf))
    for pictures, message in (
        ([grey, black], "is black in every pixel"),
        ([grey, endless], "NaN or infinity"),
    ):
        with pytest.raises(BackendError, match=f"vae_decoder: the picture .*{message}"):
            vae.read(pictures)


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

    with pytest.raises(RequestError, match=r"takes no `depth`; it takes state, read"):
        pipeline.step(pipeline.schedule(3), 0, pipeline.initial_state(latents), conditions)


def test_fewer_embeddings_than_pictures_are_refused() -> None:
    pipeline = pipeline_of("plain")
    latents = np.zeros((2, *pipeline.manifest.latent_shape), np.float32)

    with pytest.raises(RequestError, match="`embeddings`: expected a row a picture, 2 or more, found 1"):
        pipeline.step(
            pipeline.schedule(3),
            0,
            pipeline.initial_state(latents),
            Conditions(pipeline.encode_prompt(PROMPT)),
        )


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (2, 16, 16), (2, 4, 16, 16)])
def test_extras_of_another_shape_or_of_fewer_pictures_are_refused(shape: tuple[int, ...]) -> None:
    pipeline = pipeline_of("plain")
    latents = np.zeros((2, *pipeline.manifest.latent_shape), np.float32)
    embeddings = pipeline.encode_prompt([PROMPT] * 2)
    conditions = Conditions(embeddings, extras={"keep": np.ones(shape, np.float32)})
    with pytest.raises(RequestError, match=r"`keep`: expected shape \(2, 1, 16, 16\), found "):
        pipeline.step(pipeline.schedule(3), 0, pipeline.initial_state(latents), conditions)


def test_arguments_beside_a_request_are_refused() -> None:
    with pytest.raises(RequestError, match="a Request was given, and `eta` beside it"):
        pipeline_of("plain")(Request(prompt=PROMPT), eta=0.5)


@pytest.mark.parametrize(
    ("row", "state", "noise", "message"),
    [
        (3, (1, 5, 4, 16, 16), None, "`row`: this schedule has rows 0 to 2, found 3"),
        (-1, (1, 5, 4, 16, 16), None, "`row`: this schedule has rows 0 to 2, found -1"),
        (0, (1, 4, 16, 16), None, r"`state`: expected shape \(n, 5, 4, 16, 16\), found \(1, 4, 16, 16\)"),
        (
            0,
            (0, 5, 4, 16, 16),
            None,
            r"`state`: expected shape \(n, 5, 4, 16, 16\), found \(0, 5, 4, 16, 16\)",
        ),
        (
            0,
            (2, 5, 4, 16, 16),
            (1, 4, 16, 16),
            r"`noise`: expected shape \(2, 4, 16, 16\), found \(1, 4, 16, 16\)",
        ),
    ],
)
def test_a_step_of_another_shape_is_refused(
    row: int, state: tuple[int, ...], noise: tuple[int, ...] | None, message: str
) -> None:
    pipeline = pipeline_of("plain")
    conditions = Conditions(pipeline.encode_prompt(PROMPT))
    drawn = None if noise is None else np.zeros(noise, np.float32)

    with pytest.raises(RequestError, match=message):
        pipeline.step(
            pipeline.schedule(3, scheduler="ddim"), row, np.zeros(state, np.float32), conditions, drawn
        )


def test_latents_of_another_shape_begin_no_state() -> None:
    with pytest.raises(
        RequestError, match=r"`latents`: expected shape \(n, 4, 16, 16\), found \(4, 16, 16\)"
    ):
        pipeline_of("plain").initial_state(np.zeros((4, 16, 16), np.float32))


def test_no_latents_are_no_picture() -> None:
    with pytest.raises(RequestError, match="expected those of a picture at least, found none"):
        pipeline_of("plain").decode_latents(np.zeros((0, 4, 16, 16), np.float32))
