"""The architectures of the public Stable Diffusion models, and of a tiny twin of each: names in, configs out.

Values are those of the public checkpoints' config files, in diffusers' and transformers' own field names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calotype_export import model_configs
from calotype_export.model_configs import Sizes

Config = Mapping[str, Any]

NAMES = ("sd15", "sd15-inpainting", "sd21-base", "sd21", "sd2-inpainting", "sd2-depth")
_FAMILY = {"sd15": "sd1", "sd15-inpainting": "sd1"}
_CHANNELS = {"sd15-inpainting": 9, "sd2-inpainting": 9, "sd2-depth": 5}
_PIPELINES = {4: "StableDiffusionPipeline", 9: "StableDiffusionInpaintPipeline",
              5: "StableDiffusionDepth2ImgPipeline"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything of a checkpoint but its weights and vocabulary."""

    name: str
    pipeline: str  # diffusers' class
    models: Mapping[str, Config]  # component name -> config with `_class_name` or `architectures`
    scheduler: Config
    feature_extractor: Config
    vocabulary: int  # number of token ids
    pad_token: str


def architecture(name: str) -> Architecture:
    """The architecture called `name`; `tiny-` in front gives its small twin. KeyError for other names."""
    tiny = name.startswith("tiny-")
    public = name.removeprefix("tiny-")
    if public not in NAMES:
        raise KeyError(name)
    family = _FAMILY.get(public, "sd2")
    channels = _CHANNELS.get(public, 4)
    sizes = (_TINY if tiny else _FULL)[family]
    pixels = 768 if public == "sd21" else 512
    unet = model_configs.unet(family, channels, sizes)
    models: dict[str, Config] = {
        "unet": {**unet, "sample_size": 16 if tiny else pixels // 8, "upcast_attention": public == "sd21"},
        "vae": {**model_configs.vae(sizes), "sample_size": 128 if tiny else pixels},
        "text_encoder": model_configs.text_encoder(family, sizes),
    }
    extractor = model_configs.clip_processor(sizes.checker_pixels)
    if family == "sd1":
        models["safety_checker"] = model_configs.safety_checker(sizes)
    if channels == 5:
        models["depth_estimator"] = model_configs.depth_estimator(sizes)
        extractor = model_configs.dpt_processor(sizes.depth_pixels)
    return Architecture(
        name=name,
        pipeline=_PIPELINES[channels],
        models=models,
        scheduler=model_configs.scheduler(public),
        feature_extractor=extractor,
        vocabulary=sizes.vocabulary,
        pad_token="<|endoftext|>" if family == "sd1" else "!",
    )


_FULL = {
    family: Sizes(
        unet_widths=(320, 640, 1280, 1280), unet_layers=2, unet_heads=heads, unet_groups=32,
        vae_widths=(128, 256, 512, 512), vae_layers=2, vae_groups=32,
        vocabulary=49408, text=text, text_projection=projection,
        checker=(1024, 24, 16), checker_pixels=224,
        depth=(768, 12, 12), depth_backbone=(64, 256, 512, 1024), depth_blocks=(3, 4, 9),
        depth_taps=(2, 5, 8, 11), depth_fusion=256, depth_pixels=384,
    )
    for family, heads, text, projection in (
        ("sd1", 8, (768, 12, 12), 768),
        ("sd2", (5, 10, 20, 20), (1024, 23, 16), 512),
    )
}  # fmt: skip
_TINY = {
    family: Sizes(
        unet_widths=(32, 32, 64, 64), unet_layers=1, unet_heads=heads, unet_groups=8,
        vae_widths=(16, 16, 32, 32), vae_layers=1, vae_groups=8,
        vocabulary=3000, text=(32, 3, 4), text_projection=32,
        checker=(32, 2, 4), checker_pixels=56,
        depth=(32, 4, 4), depth_backbone=(16, 16, 32, 64), depth_blocks=(1, 1, 1),
        depth_taps=(0, 1, 2, 3), depth_fusion=16, depth_pixels=64,
    )
    for family, heads in (("sd1", 4), ("sd2", (2, 2, 4, 4)))
}  # fmt: skip
