"""One row of a schedule as a torch module: a float32 solver and guidance around a UNet in the bundle's precision."""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from calotype_export.programs import Program, Tensors, dtype_of


def entered_at_time_embedding(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """`unet`, sharing its parameters, but its `timestep` argument is the sinusoid (N, F) that enters `time_embedding`.

    Everything else stays UNet2DConditionModel.forward's: only the method that makes the sinusoid is replaced.
    """

    def features(sample: Tensor, timestep: Tensor) -> Tensor:
        return timestep.to(sample.dtype)

    entered = copy.copy(unet)
    entered.get_time_embed = features  # pyright: ignore[reportAttributeAccessIssue]
    return entered


def guided(pair: Tensor, guidance: Tensor, rescale: Tensor) -> Tensor:
    """Classifier-free guidance of `pair` (2B, C, H, W), unconditional first; `guidance`, `rescale` (B).

    With guidance at or below 1 a row is its conditional prediction. The rescaling is diffusers'
    `rescale_noise_cfg` (https://arxiv.org/abs/2305.08891, section 3.4).
    """
    unconditional, conditional = pair.chunk(2)
    scale, rescale = guidance[:, None, None, None], rescale[:, None, None, None]
    mixed = unconditional + scale * (conditional - unconditional)
    factor = rescale * (spread(conditional) / spread(mixed)) + (1 - rescale)
    mixed = torch.where(rescale > 0, mixed * factor, mixed)
    return torch.where(scale > 1, mixed, conditional)


def spread(values: Tensor) -> Tensor:
    """The standard deviation of each row (up to a factor that cancels), as a (B, 1, 1, 1) tensor."""
    centred = values - values.mean(dim=(1, 2, 3), keepdim=True)
    return (centred * centred).mean(dim=(1, 2, 3), keepdim=True).sqrt()


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """Weighted sums of `values` (B, K, C, H, W) with `weights` (B, R, K): (B, R, C, H, W).

    A broadcast multiplication and a sum, never a matrix product: backends compute those in bf16 or TF32.
    """
    batch, _, *shape = values.shape
    products = weights[:, :, :, None] * values.reshape(batch, 1, values.shape[1], -1)  # (B, R, K, C * H * W)
    return products.sum(dim=2).reshape(batch, weights.shape[1], *shape)


class UnetStep(Program):
    """sample = read . state;  prediction = guided(UNet(sample, ...));  state' = write . [state, prediction, noise].

    in   `state` (B, S, C, H, W)  `read` (B, S)  `write` (B, S, S + 2)  `time_features` (B, F)  `noise` (B, C, H, W)
         `embeddings` (2B, T, D), unconditional first, with `guidance` and `guidance_rescale` (B); else (B, T, D)
         `timestep_cond` (B, W) for a UNet distilled from guidance
         `mask` (B, 1, H, W) and `masked_latents` (B, C, H, W), or `depth` (B, 1, H, W): the UNet's further channels
         `keep` (B, 1, H, W), `original` and `original_noise` (B, C, H, W), `blend` (B, 2): where `keep` is 1 the
         latents become blend . [original, original_noise]
    out  `next_state` (B, S, C, H, W)

    Which of them there are is decided by the names of the inputs at export.
    """

    outputs = ("next_state",)

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = entered_at_time_embedding(unet)
        self.dtype = dtype_of(unet)

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        state, noise = inputs["state"], inputs["noise"]
        sample = mix(inputs["read"][:, None], state)[:, 0]
        prediction = self.predict(sample, inputs)
        values = torch.cat([state, prediction[:, None], noise[:, None]], dim=1)  # (B, S + 2, C, H, W)
        following = mix(inputs["write"], values)
        if "keep" in inputs:
            following = torch.cat([kept(following[:, 0], inputs)[:, None], following[:, 1:]], dim=1)
        return {"next_state": following}

    def predict(self, sample: Tensor, inputs: Tensors) -> Tensor:
        """The UNet's prediction (B, C, H, W), after guidance, in float32."""
        channels = [inputs[name] for name in ("mask", "masked_latents", "depth") if name in inputs]
        sample = torch.cat([sample, *channels], dim=1)
        features = inputs["time_features"]
        if "guidance" in inputs:
            sample, features = torch.cat([sample, sample]), torch.cat([features, features])
        condition = inputs.get("timestep_cond")
        prediction = self.unet(
            sample.to(self.dtype),
            features,
            inputs["embeddings"].to(self.dtype),
            timestep_cond=None if condition is None else condition.to(self.dtype),
            return_dict=False,
        )[0].float()
        if "guidance" in inputs:
            return guided(prediction, inputs["guidance"], inputs["guidance_rescale"])
        return prediction


def kept(latents: Tensor, inputs: Tensors) -> Tensor:
    """`latents` (B, C, H, W), replaced by the original at this row's noise level where `keep` is 1."""
    weight = inputs["blend"][:, :, None, None, None]
    original = weight[:, 0] * inputs["original"] + weight[:, 1] * inputs["original_noise"]
    return inputs["keep"] * original + (1 - inputs["keep"]) * latents
