"""What a checkpoint's config files may say: JSON files in, mappings out, or the reason why they are refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calotype.errors import CheckpointError

_CODE_KEYS = ("auto_map", "_attn_implementation_internal", "trust_remote_code", "custom_pipelines")
_UNET_PLAIN: Mapping[str, Any] = {  # fields of UNet2DConditionModel that Stable Diffusion 1 and 2 leave alone
    "addition_embed_type": None,
    "class_embed_type": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_class_embeds": None,
    "time_embedding_type": "positional",
    "center_input_sample": False,
    "out_channels": 4,
}
CONDITIONING: Mapping[int, tuple[str, ...]] = {4: (), 5: ("depth",), 9: ("mask", "masked_latents")}
_FAMILIES = {768: "sd1", 1024: "sd2"}


def read(path: Path) -> Mapping[str, Any]:
    """The JSON object in `path`, which must not ask for code. CheckpointError otherwise."""
    where = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise CheckpointError(f"{where} is missing", "is this a complete checkpoint in diffusers' layout?")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{where} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{where} holds a {type(content).__name__}, expected an object")
    for key in _keys(content):
        if key in _CODE_KEYS:
            raise CheckpointError(f"{where} asks for code of its own with `{key}`",
                                  "only the classes of diffusers and transformers are built")  # fmt: skip
    return content


def _keys(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        yield from content
    for value in (
        content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    ):
        yield from _keys(value)


def check_unet(config: Mapping[str, Any]) -> None:
    """Refuse UNets that want inputs which no program here has. CheckpointError names the field."""
    for field, plain in _UNET_PLAIN.items():
        found = config.get(field, plain)
        if found != plain:
            raise CheckpointError(
                f"unet/config.json: {field} is {found!r}, expected {plain!r}",
                "Stable Diffusion 1.x and 2.x can be exported; SDXL and its kin cannot",
            )
    channels = config.get("in_channels", 4)
    if channels not in CONDITIONING:
        raise CheckpointError(
            f"unet/config.json: in_channels is {channels}, expected 4, 5 (depth) or 9 (inpainting)",
            "upscalers and other variants cannot be exported",
        )


def check_vae(config: Mapping[str, Any]) -> None:
    """Refuse autoencoders that are not 8 times smaller with 4 channels."""
    factor = 2 ** (len(config.get("block_out_channels", (64,))) - 1)
    found = (factor, config.get("latent_channels", 4))
    if found != (8, 4):
        raise CheckpointError(
            f"vae/config.json: {found[0]} pixels a latent and {found[1]} channels, expected 8 and 4")  # fmt: skip


def family(unet: Mapping[str, Any]) -> str:
    """sd1, sd2 or custom, by the width of the text embeddings."""
    return _FAMILIES.get(unet.get("cross_attention_dim", 1280), "custom")


def repaired_unet(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """diffusers' repair on load: very old configs say a sample size below 64 and mean 64."""
    version = str(config.get("_diffusers_version", "99")).split(".")
    old = [int("0" + "".join(filter(str.isdigit, part))) for part in version[:2]] < [0, 9]
    size = config.get("sample_size")
    return {**config, "sample_size": 64} if old and isinstance(size, int) and size < 64 else config


def repaired_scheduler(config: Mapping[str, Any], channels: int) -> Mapping[str, Any]:
    """The scheduler config with the repairs of the pipeline class for a UNet of `channels` inputs.

    Source: `__init__` of diffusers' StableDiffusionPipeline and StableDiffusionInpaintPipeline;
    StableDiffusionDepth2ImgPipeline repairs nothing. What the file leaves out is what the scheduler's class says, and
    is repaired too, for that class alone: `_use_default_values` names it, as in diffusers, and another one has its own
    (`from_config`). `calotype_repairs` names what was changed.
    """
    wrong = {
        4: {"steps_offset": 1, "clip_sample": False},
        9: {"steps_offset": 1, "skip_prk_steps": True},
        5: {},
    }[channels]
    repairs = {key: value for key, value in wrong.items() if _scheduler_field(config, key, value) != value}
    absent = sorted(repairs.keys() - config.keys())
    assumed = {"_use_default_values": [*config.get("_use_default_values", ()), *absent]} if absent else {}
    return {**config, **repairs, **assumed, "calotype_repairs": sorted(repairs)}


def _scheduler_field(config: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    """What a scheduler of this config has as `key`; `otherwise` where neither the config nor its class knows it."""
    if key in config:
        return config[key]
    import diffusers

    known = inspect.signature(getattr(diffusers, config["_class_name"])).parameters
    return known[key].default if key in known else otherwise
