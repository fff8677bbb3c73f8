"""The step program against diffusers' UNet, guidance and blending."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import Tensor

from calotype_export import signatures, unet_step
from tests.export import modules

PREDICTION_ALONE, MIXED = 1, 0  # seeds of `signatures.example`


def inputs(batch: int = 1, seed: int = PREDICTION_ALONE, **decided: object) -> dict[str, Tensor]:
    manifest = modules.manifest(**decided)  # pyright: ignore[reportArgumentType]
    specs = signatures.inputs("unet_step", batch, manifest, modules.SIZES)
    return signatures.example_tensors(specs, seed)


@torch.no_grad()
def test_the_prediction_is_that_of_diffusers_unet_for_a_plain_timestep() -> None:
    unet, given = modules.unet(), inputs(guided=False)
    timestep = torch.tensor([681.0])
    given["time_features"] = unet.time_proj(timestep)
    sample = (given["read"][:, :, None, None, None] * given["state"]).sum(1)
    found = unet_step.UnetStep(unet)(given)["next_state"][:, 0]
    torch.testing.assert_close(found, unet(sample, timestep, given["embeddings"]).sample)


@torch.no_grad()
def test_wrapping_a_unet_leaves_it_as_it_was() -> None:
    unet = modules.unet()
    unet_step.UnetStep(unet)
    assert "get_time_embed" not in vars(unet)


@torch.no_grad()
def test_guidance_mixes_the_two_predictions_as_diffusers_does() -> None:
    step, given = unet_step.UnetStep(modules.unet()), inputs()
    given["guidance"], given["guidance_rescale"] = torch.tensor([5.0]), torch.tensor([0.7])
    halves = {name: value for name, value in given.items() if not name.startswith("guidance")}
    unconditional, conditional = (
        step({**halves, "embeddings": rows})["next_state"][:, 0] for rows in given["embeddings"].chunk(2)
    )
    mixed = unconditional + 5.0 * (conditional - unconditional)
    expected = rescale_noise_cfg(mixed, conditional, guidance_rescale=0.7)
    torch.testing.assert_close(step(given)["next_state"][:, 0], expected)


@torch.no_grad()
def test_pictures_of_a_batch_are_guided_each_by_its_own_prompt_timestep_and_scale() -> None:
    step, given = unet_step.UnetStep(modules.unet()), inputs(batch=2)
    given["guidance"], given["guidance_rescale"] = torch.tensor([5.0, 9.0]), torch.tensor([0.7, 0.4])
    given["state"][1] *= 3
    together = step(given)["next_state"]
    for index in range(2):
        rows = given["embeddings"][[index, 2 + index]]
        alone = {name: value[index : index + 1] for name, value in given.items()}
        torch.testing.assert_close(step({**alone, "embeddings": rows})["next_state"][0], together[index])


@torch.no_grad()
@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0])
def test_guidance_at_or_below_one_is_the_conditional_prediction_alone(guidance: float) -> None:
    step, given = unet_step.UnetStep(modules.unet()), inputs()
    given["guidance"] = torch.tensor([guidance])
    halves = {name: value for name, value in given.items() if not name.startswith("guidance")}
    expected = step({**halves, "embeddings": given["embeddings"][1:]})["next_state"]
    torch.testing.assert_close(step(given)["next_state"], expected)


@torch.no_grad()
def test_the_next_state_is_the_written_mixture_of_state_prediction_and_noise() -> None:
    step, given = unet_step.UnetStep(modules.unet()), inputs(batch=2, seed=MIXED)
    given["keep"].zero_()
    alone = {**given, "write": inputs(batch=2)["write"]}
    prediction = step(alone)["next_state"][:, 0]
    values = torch.cat([given["state"], prediction[:, None], given["noise"][:, None]], dim=1)
    expected = torch.einsum("brk,bkchw->brchw", given["write"], values)
    torch.testing.assert_close(step(given)["next_state"], expected)


@torch.no_grad()
def test_a_timestep_condition_reaches_the_time_embedding() -> None:
    unet: Any = modules.unet(time_cond_proj_dim=8)
    torch.nn.init.normal_(unet.time_embedding.cond_proj.weight)
    given = inputs(guided=False, timestep_cond=8)
    timestep = torch.tensor([20.0])
    given["time_features"] = unet.time_proj(timestep)
    sample = (given["read"][:, :, None, None, None] * given["state"]).sum(1)
    expected = unet(sample, timestep, given["embeddings"], timestep_cond=given["timestep_cond"]).sample
    torch.testing.assert_close(unet_step.UnetStep(unet)(given)["next_state"][:, 0], expected)


@torch.no_grad()
@pytest.mark.parametrize(("channels", "names"), [(9, ("mask", "masked_latents")), (5, ("depth",))])
def test_further_channels_follow_the_latents_in_diffusers_order(
    channels: int, names: tuple[str, ...]
) -> None:
    unet = modules.unet(channels)
    given = inputs(guided=False, conditioning=names)
    timestep = torch.tensor([301.0])
    given["time_features"] = unet.time_proj(timestep)
    sample = (given["read"][:, :, None, None, None] * given["state"]).sum(1)
    sample = torch.cat([sample, *(given[name] for name in names)], dim=1)
    expected = unet(sample, timestep, given["embeddings"]).sample
    torch.testing.assert_close(unet_step.UnetStep(unet)(given)["next_state"][:, 0], expected)


@torch.no_grad()
def test_where_keep_is_one_the_latents_are_the_original_at_the_rows_noise_level() -> None:
    step, given = unet_step.UnetStep(modules.unet()), inputs(seed=MIXED)
    free = step({**given, "keep": torch.zeros_like(given["keep"])})["next_state"]
    a, b = (float(value) for value in given["blend"][0])
    original = a * given["original"] + b * given["original_noise"]
    expected = torch.where(given["keep"] > 0, original, free[:, 0])
    found = step(given)["next_state"]
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(found[:, 1:], free[:, 1:])


@torch.no_grad()
def test_the_solver_stays_in_float32_around_a_unet_in_half_precision() -> None:
    step, given = unet_step.UnetStep(modules.unet().half()), inputs()
    given["write"].zero_()
    given["write"][:, 0, 0] = 1
    assert torch.equal(step(given)["next_state"][:, 0], given["state"][:, 0])
