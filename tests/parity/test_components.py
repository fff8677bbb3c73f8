"""What the pipeline does besides denoising, against eager diffusers and transformers: clip_skip, safety, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import diffusers
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTokenizer

from calotype import Pipeline
from tests.bundles import bundle, checkpoint


def test_clip_skip_is_the_earlier_hidden_state_after_the_final_layer_norm() -> None:
    folder = checkpoint("plain")
    model: Any = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer: Any = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    ids = tokenizer("a red circle", padding="max_length", max_length=77, return_tensors="pt").input_ids
    pipeline = Pipeline.load(bundle("plain"), "onnxruntime", threads=1)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
        for skip in range(len(states)):
            expected = model.final_layer_norm(states[-(skip + 1)]).numpy()
            found = pipeline.encode_prompt("a red circle", clip_skip=skip).prompt

            np.testing.assert_allclose(found, expected, atol=1e-5)


def telling_apart(eager: Any, pictures: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Thresholds of special and other concepts by which one of two pictures is flagged, and set in `eager`."""
    checker = eager.safety_checker
    pixels = eager.feature_extractor(
        [*(pictures * 255).round().astype(np.uint8)], return_tensors="pt"
    ).pixel_values
    with torch.no_grad():
        embedded = checker.visual_projection(checker.vision_model(pixels)[1])
        scores = cosine_distance(embedded, checker.concept_embeds)
        differs = int((scores[0] - scores[1]).abs().argmax())
        checker.special_care_embeds_weights.fill_(2.0)  # no cosine is above 1
        checker.concept_embeds_weights.fill_(2.0)
        checker.concept_embeds_weights[differs] = scores[:, differs].mean()
    special, concept = checker.special_care_embeds_weights, checker.concept_embeds_weights
    return special.detach().numpy(), concept.detach().numpy()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pictures_are_flagged_and_blackened_as_the_safety_checker_does(seed: int) -> None:
    eager: Any = diffusers.StableDiffusionPipeline.from_pretrained(checkpoint("plain"))
    eager.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {"num_inference_steps": 3, "num_images_per_prompt": 2, "output_type": "np"}

    def drawn() -> Any:
        return eager("a red circle", generator=torch.Generator().manual_seed(seed), **arguments)

    pipeline = Pipeline.load(bundle("plain"), "onnxruntime", threads=1)
    unflagged = drawn().images
    checker: Any = pipeline._loaded.safety_checker
    checker._thresholds = telling_apart(eager, unflagged)
    expected, found = drawn(), pipeline("a red circle", seed=seed, **arguments)

    assert sorted(expected.nsfw_content_detected) == [False, True]
    assert found.nsfw_content_detected == expected.nsfw_content_detected
    np.testing.assert_allclose(found.images, expected.images, atol=1 / 255)
