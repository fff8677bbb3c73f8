"""The architectures of the public Stable Diffusion models, and of a tiny twin of each: names in, configs out.

Values are those of the public checkpoints' config files, in diffusers' and transformers' own field names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]

TOKENS = 77
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
    models: dict[str, Config] = {
        "unet": _unet(family, channels, sizes) | {"sample_size": 16 if tiny else pixels // 8,
                                                  "upcast_attention": public == "sd21"},
        "vae": _vae(sizes) | {"sample_size": 128 if tiny else pixels},
        "text_encoder": _text_encoder(family, sizes),
    }  # fmt: skip
    extractor = _clip_processor(sizes.checker_pixels)
    if family == "sd1":
        models["safety_checker"] = _safety_checker(sizes)
    if channels == 5:
        models["depth_estimator"] = _depth_estimator(sizes)
        extractor = _dpt_processor(sizes.depth_pixels)
    return Architecture(
        name=name,
        pipeline=_PIPELINES[channels],
        models=models,
        scheduler=_scheduler(public),
        feature_extractor=extractor,
        vocabulary=sizes.vocabulary,
        pad_token="<|endoftext|>" if family == "sd1" else "!",
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The widths and depths in which a tiny twin differs from its model."""

    unet_widths: tuple[int, ...]
    unet_layers: int
    unet_heads: int | tuple[int, ...]
    unet_groups: int
    vae_widths: tuple[int, ...]
    vae_layers: int
    vae_groups: int
    vocabulary: int
    text: tuple[int, int, int]  # width, layers, heads
    text_projection: int
    checker: tuple[int, int, int]
    checker_pixels: int
    depth: tuple[int, int, int]
    depth_backbone: tuple[int, ...]  # stem, then the three stages of BiT
    depth_blocks: tuple[int, ...]
    depth_taps: tuple[int, ...]  # ViT layers that the neck reads
    depth_fusion: int
    depth_pixels: int


_FULL = {
    family: _Sizes(
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
    family: _Sizes(
        unet_widths=(32, 32, 64, 64), unet_layers=1, unet_heads=heads, unet_groups=8,
        vae_widths=(16, 16, 32, 32), vae_layers=1, vae_groups=8,
        vocabulary=3000, text=(32, 3, 4), text_projection=32,
        checker=(32, 2, 4), checker_pixels=56,
        depth=(32, 4, 4), depth_backbone=(16, 16, 32, 64), depth_blocks=(1, 1, 1),
        depth_taps=(0, 1, 2, 3), depth_fusion=16, depth_pixels=64,
    )
    for family, heads in (("sd1", 4), ("sd2", (2, 2, 4, 4)))
}  # fmt: skip


def _unet(family: str, channels: int, sizes: _Sizes) -> dict[str, Any]:
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.10.0",
        "act_fn": "silu",
        "attention_head_dim": sizes.unet_heads,
        "block_out_channels": sizes.unet_widths,
        "center_input_sample": False,
        "cross_attention_dim": sizes.text[0],
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": channels,
        "layers_per_block": sizes.unet_layers,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": sizes.unet_groups,
        "out_channels": 4,
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "use_linear_projection": family == "sd2",
    }


def _vae(sizes: _Sizes) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.10.0",
        "act_fn": "silu",
        "block_out_channels": sizes.vae_widths,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": sizes.vae_layers,
        "norm_num_groups": sizes.vae_groups,
        "out_channels": 3,
        "scaling_factor": 0.18215,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }


def _text_encoder(family: str, sizes: _Sizes) -> dict[str, Any]:
    width, layers, heads = sizes.text
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "attention_dropout": 0.0,
        "bos_token_id": sizes.vocabulary - 2,
        "eos_token_id": sizes.vocabulary - 1,
        "pad_token_id": sizes.vocabulary - 1 if family == "sd1" else 0,
        "hidden_act": "quick_gelu" if family == "sd1" else "gelu",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": TOKENS,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "projection_dim": sizes.text_projection,
        "vocab_size": sizes.vocabulary,
    }


def _safety_checker(sizes: _Sizes) -> dict[str, Any]:
    width, layers, heads = sizes.checker
    projection = 768 if width == 1024 else width
    vision = {
        "hidden_act": "quick_gelu",
        "hidden_size": width,
        "image_size": sizes.checker_pixels,
        "intermediate_size": 4 * width,
        "model_type": "clip_vision_model",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "patch_size": 14,
        "projection_dim": projection,
    }
    text = {"model_type": "clip_text_model", "hidden_size": width, "num_attention_heads": heads}
    return {
        "architectures": ["StableDiffusionSafetyChecker"],
        "model_type": "clip",
        "logit_scale_init_value": 2.6592,
        "projection_dim": projection,
        "text_config": text,
        "vision_config": vision,
    }


def _depth_estimator(sizes: _Sizes) -> dict[str, Any]:
    """DPT-Hybrid (MiDaS 3.0): a BiT network feeds a vision transformer; its first two stages feed the neck."""
    width, layers, heads = sizes.depth
    stem, *stages = sizes.depth_backbone
    backbone = {
        "model_type": "bit",
        "depths": sizes.depth_blocks,
        "embedding_dynamic_padding": True,
        "embedding_size": stem,
        "global_padding": "same",
        "hidden_sizes": stages,
        "layer_type": "bottleneck",
        "num_groups": 32 if stem == 64 else 4,
        "out_features": ["stage1", "stage2", "stage3"],
    }
    patches = sizes.depth_pixels // 16
    return {
        "architectures": ["DPTForDepthEstimation"],
        "model_type": "dpt",
        "backbone_config": backbone,
        "backbone_featmap_shape": [1, stages[-1], patches, patches],
        "backbone_out_indices": sizes.depth_taps,
        "fusion_hidden_size": sizes.depth_fusion,
        "head_in_index": -1,
        "hidden_act": "gelu",
        "hidden_size": width,
        "image_size": sizes.depth_pixels,
        "intermediate_size": 4 * width,
        "is_hybrid": True,
        "layer_norm_eps": 1e-12,
        "neck_hidden_sizes": [stages[0], stages[1], width, width],
        "neck_ignore_stages": [0, 1],
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "patch_size": 16,
        "qkv_bias": True,
        "readout_type": "project",
        "reassemble_factors": [1, 1, 1, 0.5],
        "use_batch_norm_in_fusion_residual": False,
    }


def _clip_processor(pixels: int) -> Config:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor",
        "crop_size": {"height": pixels, "width": pixels},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": pixels},
    }


def _dpt_processor(pixels: int) -> Config:
    return {
        "image_processor_type": "DPTImageProcessor",
        "feature_extractor_type": "DPTFeatureExtractor",
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "ensure_multiple_of": 1,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "keep_aspect_ratio": False,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": pixels, "width": pixels},
    }


def _scheduler(public: str) -> Config:
    return {
        "_class_name": "DDIMScheduler" if public in {"sd21", "sd15-inpainting"} else "PNDMScheduler",
        "_diffusers_version": "0.10.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction" if public == "sd21" else "epsilon",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    }
