"""The programs of a bundle as torch modules: a mapping of named tensors goes in, a mapping of named tensors comes out.

Each module wraps one component of a checkpoint and gives it the tensors that the bundle promises: float32
everywhere except token ids, whatever precision the component computes in. `unet_step` has a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPSegForImageSegmentation, CLIPTextModel, DPTForDepthEstimation

Tensors = Mapping[str, Tensor]


def dtype_of(module: nn.Module) -> torch.dtype:
    """The dtype that `module` computes in: that of its first floating-point parameter."""
    return next(parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())


class Program(nn.Module):
    """A module over named tensors; `outputs` names what `forward` returns, in order."""

    outputs: ClassVar[tuple[str, ...]] = ()

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        raise NotImplementedError


class TextEncoder(Program):
    """CLIPTextModel with every hidden state reachable, each after the final LayerNorm.

    R texts are encoded at once: two in a guided bundle, else one.

    in  `input_ids` (R, T) int64      out  `hidden_states` (R, L + 1, T, D), the embeddings first
    """

    outputs = ("hidden_states",)

    def __init__(self, model: CLIPTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        outputs = self.model(input_ids=inputs["input_ids"], output_hidden_states=True)
        states = torch.stack(outputs.hidden_states, dim=1)  # (R, L + 1, T, D)
        return {"hidden_states": self.model.final_layer_norm(states).float()}


class VaeEncoder(Program):
    """The moments of AutoencoderKL's posterior, never a sample of it; both in the latents' scale.

    in  `image` (1, 3, 8H, 8W) in [-1, 1]      out  `mean`, `deviation` (1, C, H, W)
    """

    outputs = ("mean", "deviation")

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        # Any: diffusers' annotations of encode and decode are not what they return
        self.vae: Any = vae

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        posterior = self.vae.encode(inputs["image"].to(dtype_of(self.vae))).latent_dist
        scale = float(self.vae.config["scaling_factor"])
        return {"mean": posterior.mean.float() * scale, "deviation": posterior.std.float() * scale}


class VaeDecoder(Program):
    """A picture from latents. It is not clamped: a NaN must stay visible, and numpy clips.

    in  `latents` (1, C, H, W) as the UNet sees them      out  `image` (1, 8H, 8W, 3), nominally in [0, 1]
    """

    outputs = ("image",)

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        latents = inputs["latents"].to(dtype_of(self.vae)) / float(self.vae.config["scaling_factor"])
        image = self.vae.decode(latents).sample.float()
        return {"image": (image / 2 + 0.5).permute(0, 2, 3, 1)}


class DepthEstimator(Program):
    """DPT, or DPT-hybrid: resizing and normalising its output is the runtime's.

    in  `pixel_values` (1, 3, h, w)      out  `depth` (1, h', w')
    """

    outputs = ("depth",)

    def __init__(self, model: DPTForDepthEstimation) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        pixels = inputs["pixel_values"].to(dtype_of(self.model))
        return {"depth": self.model(pixel_values=pixels).predicted_depth.float()}


class SafetyChecker(Program):
    """The cosine distances that StableDiffusionSafetyChecker compares with thresholds, in float32 from its embedding.

    in  `pixel_values` (1, 3, h, w)      out  `special_scores` (1, n), `concept_scores` (1, m)
    """

    outputs = ("special_scores", "concept_scores")

    def __init__(self, checker: StableDiffusionSafetyChecker) -> None:
        super().__init__()
        self.checker = checker

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        network = self.checker.vision_model
        pooled = network(inputs["pixel_values"].to(dtype_of(network)))[1]
        embedding = _products(pooled.float(), self.checker.visual_projection.weight)
        special: Any = self.checker.special_care_embeds
        concepts: Any = self.checker.concept_embeds
        return {
            "special_scores": _cosines(embedding, special),
            "concept_scores": _cosines(embedding, concepts),
        }


def _cosines(row: Tensor, others: Tensor) -> Tensor:
    """(1, n) from (1, D) and (n, D)."""
    return _products(functional.normalize(row), functional.normalize(others))


def _products(row: Tensor, others: Tensor) -> Tensor:
    """(1, n) from (1, D) and (n, D), by multiplying and adding: a matrix product is TF32's on some backends."""
    return (row * others).sum(-1)[None]


class Segmenter(Program):
    """CLIPSeg: how much each pixel is what the words say.

    in  `pixel_values` (1, 3, h, w), `input_ids` and `attention_mask` (1, 77) int64      out  `logits` (1, h', w')
    """

    outputs = ("logits",)

    def __init__(self, model: CLIPSegForImageSegmentation) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        logits = self.model(
            input_ids=inputs["input_ids"],
            pixel_values=inputs["pixel_values"],
            attention_mask=inputs["attention_mask"],
        ).logits
        return {"logits": logits.reshape(1, *logits.shape[-2:])}


COMPONENTS: Mapping[str, str] = {
    "text_encoder": "text_encoder",
    "unet_step": "unet",
    "vae_encoder": "vae",
    "vae_decoder": "vae",
    "depth_estimator": "depth_estimator",
    "safety_checker": "safety_checker",
    "segmenter": "segmenter",
}
"""The component of a checkpoint that each program comes from, in the order in which they are exported."""
