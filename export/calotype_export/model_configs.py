"""Config files of the components of Stable Diffusion 1 and 2: widths and depths in, configs out.

Values are those of the public checkpoints, in diffusers' and transformers' own field names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TOKENS = 77


@dataclass(frozen=True, slots=True)
class Sizes:
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


def unet(family: str, channels: int, sizes: Sizes) -> dict[str, Any]:
    """UNet2DConditionModel, whose sample_size and upcast_attention follow the model."""
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


def vae(sizes: Sizes) -> dict[str, Any]:
    """AutoencoderKL, whose sample_size follows the model."""
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


def text_encoder(family: str, sizes: Sizes) -> dict[str, Any]:
    """CLIPTextModel: CLIP ViT-L, or OpenCLIP ViT-H without its last layer."""
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


def safety_checker(sizes: Sizes) -> dict[str, Any]:
    """StableDiffusionSafetyChecker: CLIP ViT-L/14 and 20 concepts."""
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


def depth_estimator(sizes: Sizes) -> dict[str, Any]:
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


def clip_processor(pixels: int) -> dict[str, Any]:
    """CLIPImageProcessor."""
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


def dpt_processor(pixels: int) -> dict[str, Any]:
    """DPTImageProcessor."""
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


def scheduler(public: str) -> dict[str, Any]:
    """The scheduler of the public model: DDIM where it is named so, PNDM elsewhere."""
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
