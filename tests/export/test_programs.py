"""Programs against the components that they wrap."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
)

from calotype_export import programs
from tests.export import modules


def test_the_last_hidden_state_is_the_models_own_output() -> None:
    model, ids = modules.text_encoder(), torch.arange(77)[None]
    with torch.no_grad():
        states = programs.TextEncoder(model)({"input_ids": ids})["hidden_states"]
        expected = model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(states[:, -1], expected)


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_earlier_hidden_states_are_those_of_transformers_after_the_final_layer_norm(clip_skip: int) -> None:
    model, ids = modules.text_encoder(), torch.arange(77)[None]
    with torch.no_grad():
        states = programs.TextEncoder(model)({"input_ids": ids})["hidden_states"]
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[-(clip_skip + 1)]
        expected = model.final_layer_norm(hidden)
    torch.testing.assert_close(states[:, -(clip_skip + 1)], expected)


def test_the_vae_encoder_gives_the_posteriors_moments_in_the_latents_scale() -> None:
    vae: Any = modules.vae()
    image = torch.rand(1, 3, 64, 48) * 2 - 1
    with torch.no_grad():
        found = programs.VaeEncoder(vae)({"image": image})
        posterior = vae.encode(image).latent_dist
    torch.testing.assert_close(found["mean"], posterior.mean * vae.config["scaling_factor"])
    torch.testing.assert_close(found["deviation"], posterior.std * vae.config["scaling_factor"])


def test_the_vae_encoder_shares_the_weights_and_leaves_the_vae_as_it_was() -> None:
    vae: Any = modules.vae()
    program = programs.VaeEncoder(vae)
    own = {weight.data_ptr() for weight in vae.parameters()}

    assert {weight.data_ptr() for weight in program.parameters()} == own
    assert any(isinstance(module, torch.nn.GroupNorm) for module in vae.encoder.modules())


def test_the_vae_decoder_gives_a_picture_with_channels_last_that_is_not_clamped() -> None:
    vae: Any = modules.vae()
    latents = torch.randn(1, 4, 8, 6) * 30
    with torch.no_grad():
        image = programs.VaeDecoder(vae)({"latents": latents})["image"]
        expected = vae.decode(latents / vae.config["scaling_factor"]).sample / 2 + 0.5
    torch.testing.assert_close(image, expected.permute(0, 2, 3, 1))
    assert not torch.equal(image, image.clamp(0, 1))


def test_the_depth_estimator_gives_the_predicted_depth_as_it_is() -> None:
    model, pixels = modules.depth_estimator(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        depth = programs.DepthEstimator(model)({"pixel_values": pixels})["depth"]
        expected = model(pixels).predicted_depth
    torch.testing.assert_close(depth, expected)


def test_the_safety_checkers_scores_less_thresholds_are_what_eager_rounds() -> None:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(text_config=small, vision_config={**small, "image_size": 32, "patch_size": 16})
    checker, pixels = StableDiffusionSafetyChecker(config).eval(), torch.randn(1, 3, 32, 32)
    torch.nn.init.normal_(checker.concept_embeds)
    torch.nn.init.constant_(checker.concept_embeds_weights, 0.1)
    with torch.no_grad():
        scores = programs.SafetyChecker(checker)({"pixel_values": pixels})["concept_scores"]
        _, flagged = checker.forward(pixels, [torch.ones(3, 8, 8)])
    excess = [round(float(score) - 0.1, 3) for score in scores[0]]
    assert flagged == [any(value > 0 for value in excess)]
    assert max(abs(value) for value in excess) > 0.01


def test_the_segmenters_logits_keep_the_batch_that_transformers_drops() -> None:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config={**small, "vocab_size": 100, "max_position_embeddings": 77, "eos_token_id": 99},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    model = CLIPSegForImageSegmentation(config).eval()
    given = {
        "pixel_values": torch.randn(1, 3, 32, 32),
        "input_ids": torch.full((1, 77), 99),
        "attention_mask": torch.ones(1, 77, dtype=torch.int64),
    }
    with torch.no_grad():
        logits = programs.Segmenter(model)(given)["logits"]
        expected = model(**given).logits
    assert logits.shape == (1, 32, 32)
    torch.testing.assert_close(logits.reshape(expected.shape), expected)
