"""Config files: what is repaired, and what is refused by which field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest

from calotype import schedulers
from calotype_export import configs
from calotype_export.checkpoint import open_checkpoint
from tests.export.spoiling import change, refused


@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (32, "custom")])
def test_the_family_follows_the_width_of_the_text_embeddings(width: int, family: str) -> None:
    assert configs.family({"cross_attention_dim": width}) == family


@pytest.mark.parametrize(
    ("channels", "repairs"),
    [
        (4, {"steps_offset": 1, "clip_sample": False}),
        (9, {"steps_offset": 1, "skip_prk_steps": True}),
        (5, {}),
    ],
)
def test_the_scheduler_gets_the_repairs_of_its_pipeline(channels: int, repairs: Mapping[str, Any]) -> None:
    wrong = {"steps_offset": 0, "clip_sample": True, "skip_prk_steps": False}
    found = configs.repaired_scheduler(wrong, channels)
    assert found == {**wrong, **repairs, "calotype_repairs": sorted(repairs)}


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "UniPCMultistepScheduler"]
)
@pytest.mark.parametrize(
    ("channels", "pipeline"),
    [
        (4, diffusers.StableDiffusionPipeline),
        (9, diffusers.StableDiffusionInpaintPipeline),
    ],
)
def test_what_a_schedulers_file_leaves_out_is_repaired_as_by_diffusers(
    name: str, channels: int, pipeline: Any
) -> None:
    parts = ("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor")
    scheduler: Any = getattr(diffusers, name)()
    eager = pipeline(**dict.fromkeys(parts), scheduler=scheduler, requires_safety_checker=False)
    found = configs.repaired_scheduler({"_class_name": name}, channels)
    repaired = {key: eager.scheduler.config[key] for key in found["calotype_repairs"]}
    assert repaired == {key: found[key] for key in found["calotype_repairs"]}
    before = getattr(diffusers, name)().config
    assert {key for key in before if before[key] != eager.scheduler.config[key]} == set(
        found["calotype_repairs"]
    )
    assert "steps_offset" in repaired


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("other", ["DDIMScheduler", "PNDMScheduler", "DDPMScheduler"])
def test_what_was_left_out_and_repaired_is_not_handed_on_to_another_scheduler(name: str, other: str) -> None:
    parts = ("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor")
    loaded = getattr(diffusers, name).from_config({"_class_name": name, "beta_end": 0.012})
    kind: Any = diffusers.StableDiffusionPipeline
    pipeline = kind(**dict.fromkeys(parts), scheduler=loaded, requires_safety_checker=False)
    eager = getattr(diffusers, other).from_config(pipeline.scheduler.config).config
    chosen = schedulers.select(other, configs.repaired_scheduler({"_class_name": name, "beta_end": 0.012}, 4))
    ours = getattr(diffusers, other).from_config(chosen).config
    for key in ("steps_offset", "clip_sample", "beta_end"):
        assert ours.get(key) == eager.get(key)


def test_a_very_old_unet_is_taken_for_one_of_64_latents(copy: Path) -> None:
    change(copy / "unet/config.json", _diffusers_version="0.6.0.dev1")
    assert open_checkpoint(copy).size == (512, 512)


@pytest.mark.parametrize(("version", "size"), [("0.6.0", 96), ("0.9.0", 16)])
def test_a_larger_or_younger_unet_is_as_large_as_it_says(copy: Path, version: str, size: int) -> None:
    change(copy / "unet/config.json", _diffusers_version=version, sample_size=size)
    assert open_checkpoint(copy).size == (8 * size, 8 * size)


def test_a_missing_config_is_named(copy: Path) -> None:
    (copy / "vae/config.json").unlink()
    refused(copy, "vae/config.json is missing")


def test_a_broken_config_is_named(copy: Path) -> None:
    (copy / "vae/config.json").write_text("{", "utf-8")
    refused(copy, "vae/config.json is no JSON: Expecting property name")


def test_a_config_that_is_no_object_is_named(copy: Path) -> None:
    (copy / "vae/config.json").write_text("[]", "utf-8")
    refused(copy, "vae/config.json holds a list, expected an object")


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": {"AutoModel": "code.Model"}},
        {"text_config": {"_attn_implementation_internal": "owner/kernel"}},
        {"nested": [{"trust_remote_code": True}]},
        {"custom_pipelines": {"mine": {}}},
    ],
)
def test_a_config_that_asks_for_code_is_refused(copy: Path, fields: dict[str, Any]) -> None:
    change(copy / "text_encoder/config.json", **fields)
    hint = refused(copy, "text_encoder/config.json asks for code of its own with `")
    assert "only the classes of diffusers and transformers" in hint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time', expected None"),
        ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep', expected None"),
        ({"num_class_embeds": 1000}, "num_class_embeds is 1000, expected None"),
        ({"encoder_hid_dim": 1024}, "encoder_hid_dim is 1024, expected None"),
        ({"encoder_hid_dim_type": "text_proj"}, "encoder_hid_dim_type is 'text_proj', expected None"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier', expected 'positional'"),
        ({"center_input_sample": True}, "center_input_sample is True, expected False"),
        ({"out_channels": 8}, "out_channels is 8, expected 4"),
        ({"in_channels": 7}, r"in_channels is 7, expected 4, 5 \(depth\) or 9 \(inpainting\)"),
    ],
)
def test_other_kinds_of_unets_are_refused_by_field(copy: Path, fields: dict[str, Any], message: str) -> None:
    change(copy / "unet/config.json", **fields)
    refused(copy, f"unet/config.json: {message}")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"latent_channels": 16}, "8 pixels a latent and 16 channels"),
        ({"block_out_channels": [32, 64, 64]}, "4 pixels a latent and 4 channels"),
    ],
)
def test_other_kinds_of_autoencoders_are_refused(copy: Path, fields: dict[str, Any], found: str) -> None:
    change(copy / "vae/config.json", **fields)
    refused(copy, f"vae/config.json: {found}, expected 8 and 4")
