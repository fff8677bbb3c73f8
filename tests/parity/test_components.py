"""What the pipeline does besides denoising, against eager diffusers and transformers: clip_skip, safety, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import diffusers
import torch
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


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pictures_are_flagged_and_blackened_as_the_safety_checker_does(seed: int) -> None:
    eager: Any = diffusers.StableDiffusionPipeline.from_pretrained(checkpoint("plain"))
    eager.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    arguments: dict[str, Any] = {"num_inference_steps": 3, "num_images_per_prompt": 2}
    expected = eager("a red circle", generator=generator, output_type="np", **arguments)
    pipeline = Pipeline.load(bundle("plain"), "onnxruntime", threads=1)
    found = pipeline("a red circle", seed=seed, output_type="np", **arguments)

    assert eager.safety_checker is not None
    assert found.nsfw_content_detected == expected.nsfw_content_detected
    np.testing.assert_allclose(found.images, expected.images, atol=1 / 255)
