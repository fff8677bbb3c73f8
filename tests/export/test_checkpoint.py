"""Checkpoints: what is read, and what is refused in which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from calotype.errors import CheckpointError
from calotype_export import components, configs, opening, processors, synthetic, weight_files
from calotype_export.checkpoint import open_checkpoint
from tests.export.spoiling import UNET, change, refused


def test_facts_are_read_from_the_configs(depth_folder: Path) -> None:
    checkpoint = open_checkpoint(depth_folder)
    assert checkpoint.components == ("text_encoder", "unet", "vae", "depth_estimator")
    assert checkpoint.conditioning == ("depth",)
    assert checkpoint.prediction_type == "epsilon"
    assert checkpoint.size == (128, 128)
    assert checkpoint.timestep_cond == 0
    assert checkpoint.configs["unet"]["in_channels"] == 5


def test_the_source_holds_digests_and_no_path_of_this_machine(sd15_folder: Path) -> None:
    source = open_checkpoint(sd15_folder).source()
    assert source["checkpoint"] == "tiny-sd15"
    assert source["sha256"][UNET] == weight_files.digest(sd15_folder / UNET)
    assert str(sd15_folder.parent) not in json.dumps(source)


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("tiny-sd15", "StableDiffusionPipeline"),
        ("tiny-sd2-inpainting", "StableDiffusionInpaintPipeline"),
        ("tiny-sd2-depth", "StableDiffusionDepth2ImgPipeline"),
    ],
)
def test_the_eager_pipeline_is_of_the_unets_class(name: str, pipeline: str, tmp_path: Path) -> None:
    assert type(open_checkpoint(synthetic.write(name, tmp_path / name)).pipeline()).__name__ == pipeline


def test_models_come_in_evaluation_mode_and_in_the_dtype_asked_for(sd15_folder: Path) -> None:
    module = open_checkpoint(sd15_folder).load("vae", torch.float16)
    assert not module.training
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float16}
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_component_may_be_a_symbolic_link(copy: Path, sd15_folder: Path) -> None:
    shutil.rmtree(copy / "vae")
    (copy / "vae").symlink_to(sd15_folder / "vae")
    checkpoint = open_checkpoint(copy)
    assert checkpoint.load("vae")
    assert "vae/diffusion_pytorch_model.safetensors" in checkpoint.source()["sha256"]


@pytest.mark.parametrize(
    ("component", "entry", "message"),
    [
        (
            "unet",
            ["diffusers", "UNet3DConditionModel"],
            "unet is a UNet3DConditionModel of diffusers, expected UNet2D",
        ),
        ("unet", ["mine", "MyUNet"], "unet is a MyUNet of mine, expected UNet2DConditionModel"),
        ("image_encoder", ["transformers", "CLIPVisionModel"], "expected no such component"),
        ("scheduler", ["diffusers", "DPMSolverSDEScheduler"], "scheduler is a DPMSolverSDEScheduler"),
        ("tokenizer", ["transformers", "T5Tokenizer"], "tokenizer is a T5Tokenizer"),
    ],
)
def test_classes_that_are_not_listed_are_refused_by_name(
    copy: Path, component: str, entry: list[str], message: str
) -> None:
    change(copy / "model_index.json", **{component: entry})
    refused(copy, message)


def test_the_nearest_class_is_suggested(copy: Path) -> None:
    change(copy / "model_index.json", scheduler=["diffusers", "PNDMSchedular"])
    assert "did you mean PNDMScheduler?" in refused(copy, "scheduler is a PNDMSchedular")


def test_missing_components_are_named(copy: Path) -> None:
    change(copy / "model_index.json", vae=None, scheduler=None)
    refused(copy, "model_index.json names no vae, scheduler")


def test_a_depth_unet_without_an_estimator_is_refused(depth_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(depth_folder, tmp_path / "copy"))
    change(folder / "model_index.json", depth_estimator=None)
    refused(folder, "the UNet takes depth, but model_index.json names no depth_estimator")


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "has no model_index.json")


def test_a_name_that_is_neither_a_folder_nor_an_id_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "there is no folder")


@pytest.mark.parametrize(
    ("name", "hint"), [("a.ckpt", "a pickle runs code"), ("a.safetensors", "--config FOLDER")]
)
def test_a_file_is_refused_with_what_to_do(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).touch()
    assert hint in refused(tmp_path / name, f"{name} is a file, expected a folder")


def test_a_revision_goes_with_a_hub_id_only(sd15_folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--revision main: .* lies on this machine"):
        opening.open_source(opening.Source(sd15_folder, revision="main"))


def test_a_config_folder_goes_with_a_single_file_only(sd15_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder, which has configs of its own"):
        opening.open_source(opening.Source(sd15_folder, config=sd15_folder))


def test_a_model_that_is_not_there_is_refused(sd15_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny-sd15 has no depth_estimator") as caught:
        open_checkpoint(sd15_folder).load("depth_estimator")
    assert "text_encoder, unet, vae, safety_checker" in caught.value.hint


def test_an_image_processor_that_is_not_there_is_refused(sd15_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny-sd15 has no image processor for vae"):
        open_checkpoint(sd15_folder).processor("vae")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_vocabulary_is_named(copy: Path, name: str) -> None:
    (copy / "tokenizer" / name).unlink()
    with pytest.raises(CheckpointError, match=f"tokenizer/{name} is missing"):
        open_checkpoint(copy).tokenizer()


def test_image_processors_are_recorded(depth_folder: Path, sd15_folder: Path) -> None:
    assert open_checkpoint(depth_folder).processor("depth_estimator")["height"] == 64
    assert tuple(open_checkpoint(sd15_folder).processor("safety_checker")["crop"]) == (56, 56)


def test_an_image_processor_whose_size_follows_the_picture_is_refused(depth_folder: Path) -> None:
    config = configs.read(depth_folder / "feature_extractor/preprocessor_config.json")
    with pytest.raises(CheckpointError, match="the size of the pixel values depends on the picture"):
        processors.record({**config, "keep_aspect_ratio": True})


def test_an_unknown_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(CheckpointError, match="a component is a 'CLIPTextModl'") as caught:
        components.kind_of({"architectures": ["CLIPTextModl"]})
    assert "did you mean CLIPTextModel?" in caught.value.hint
