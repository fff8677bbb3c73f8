"""Checkpoints: what is read, what is repaired, and what is refused in which words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from calotype.errors import CheckpointError
from calotype_export import components, configs, opening, processors, synthetic, weight_files
from calotype_export.checkpoint import open_checkpoint

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write("tiny-sd15", tmp_path_factory.mktemp("checkpoint") / "tiny-sd15")


@pytest.fixture(scope="module")
def depth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write("tiny-sd2-depth", tmp_path_factory.mktemp("checkpoint") / "tiny-sd2-depth")


@pytest.fixture
def copy(sd15: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(sd15, tmp_path / "copy"))


def change(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    content = {**json.loads(path.read_text("utf-8")), **fields}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), "utf-8")


def refused(path: Path, message: str) -> str:
    """The hint of the error with `message` that opening `path` raises."""
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(path)
    return caught.value.hint


def test_facts_are_read_from_the_configs(depth: Path) -> None:
    checkpoint = open_checkpoint(depth)
    assert checkpoint.components == ("text_encoder", "unet", "vae", "depth_estimator")
    assert checkpoint.conditioning == ("depth",)
    assert checkpoint.prediction_type == "epsilon"
    assert checkpoint.size == (128, 128)
    assert checkpoint.timestep_cond == 0
    assert checkpoint.configs["unet"]["in_channels"] == 5


@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (32, "custom")])
def test_the_family_follows_the_width_of_the_text_embeddings(width: int, family: str) -> None:
    assert configs.family({"cross_attention_dim": width}) == family


def test_the_source_holds_digests_and_no_path_of_this_machine(sd15: Path) -> None:
    source = open_checkpoint(sd15).source
    assert source["checkpoint"] == "tiny-sd15"
    assert source["sha256"][UNET] == weight_files.digest(sd15 / UNET)
    assert str(sd15.parent) not in json.dumps(source)


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


def test_models_come_in_evaluation_mode_and_in_the_dtype_asked_for(sd15: Path) -> None:
    module = open_checkpoint(sd15).load("vae", torch.float16)
    assert not module.training
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float16}
    assert not any(parameter.requires_grad for parameter in module.parameters())


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


def test_a_very_old_unet_is_taken_for_one_of_64_latents(copy: Path) -> None:
    change(copy / "unet/config.json", _diffusers_version="0.6.0.dev1")
    assert open_checkpoint(copy).size == (512, 512)


def test_fp16_files_are_read_where_there_are_no_plain_ones(copy: Path, sd15: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_file(copy / UNET).items()}
    save_file(half, copy / "unet/diffusion_pytorch_model.fp16.safetensors")
    (copy / UNET).unlink()
    plain = open_checkpoint(sd15).load("unet").get_parameter("conv_in.weight")
    found = open_checkpoint(copy).load("unet").get_parameter("conv_in.weight")
    assert torch.equal(found, plain.half().float())


def split(folder: Path) -> None:
    """Turn the UNet's weights into two shards and an index."""
    tensors = load_file(folder / UNET)
    (folder / UNET).unlink()
    names = sorted(tensors)
    places = {
        name: f"diffusion_pytorch_model-0000{1 + index % 2}-of-00002.safetensors"
        for index, name in enumerate(names)
    }
    for file in set(places.values()):
        part = {name: tensors[name] for name in names if places[name] == file}
        save_file(part, folder / "unet" / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{UNET}.index.json").write_text(json.dumps(index), "utf-8")


def test_weights_in_shards_are_read(copy: Path, sd15: Path) -> None:
    split(copy)
    plain, found = (open_checkpoint(path).load("unet").state_dict() for path in (sd15, copy))
    assert all(torch.equal(value, found[name]) for name, value in plain.items())


def test_a_component_may_be_a_symbolic_link(copy: Path, sd15: Path) -> None:
    shutil.rmtree(copy / "vae")
    (copy / "vae").symlink_to(sd15 / "vae")
    checkpoint = open_checkpoint(copy)
    assert checkpoint.load("vae")
    assert "vae/diffusion_pytorch_model.safetensors" in checkpoint.source["sha256"]


def test_a_missing_shard_is_named(copy: Path) -> None:
    split(copy)
    (copy / "unet/diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    refused(copy, "unet/diffusion_pytorch_model-00002-of-00002.safetensors is missing")


@pytest.mark.parametrize("name", ["../vae/diffusion_pytorch_model.safetensors", "weights.bin"])
def test_an_index_that_names_other_files_is_refused(copy: Path, name: str) -> None:
    split(copy)
    change(copy / f"{UNET}.index.json", weight_map={"conv_in.weight": name})
    refused(copy, f"names '{name}', which is no safetensors file beside it")


def test_an_index_without_a_map_is_refused(copy: Path) -> None:
    split(copy)
    change(copy / f"{UNET}.index.json", weight_map=None)
    refused(copy, "is no index of weight files")


def test_weights_in_a_pickle_are_refused_with_what_to_do(copy: Path) -> None:
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.bin")
    hint = refused(copy, r"unet has its weights in a pickle only: diffusion_pytorch_model\.bin")
    assert "safe_serialization=True" in hint


def test_missing_weights_are_named(copy: Path) -> None:
    (copy / UNET).unlink()
    refused(copy, f"{UNET} is missing")


def test_a_cut_off_file_is_refused_with_both_sizes(copy: Path) -> None:
    size = (copy / UNET).stat().st_size
    with (copy / UNET).open("rb+") as file:
        file.truncate(size - 100)
    refused(copy, f"{UNET} is cut off: expected {size} bytes, found {size - 100}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "46 bytes do not hold its header|43 bytes do not hold",
        ),
        (b"", "0 bytes do not hold its header"),
        ((9).to_bytes(8, "little") + b"not JSON!", "its header cannot be read"),
        ((9).to_bytes(8, "little") + b'{"a":[1]}', "its header cannot be read"),
    ],
)
def test_a_file_that_is_no_safetensors_file_is_refused(copy: Path, content: bytes, message: str) -> None:
    (copy / UNET).write_bytes(content)
    refused(copy, message)


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
        ({"in_channels": 7}, r"in_channels is 7, expected 4, 5 \(depth\) or 9 \(inpainting\)"),
    ],
)
def test_other_kinds_of_unets_are_refused_by_field(copy: Path, fields: dict[str, Any], message: str) -> None:
    change(copy / "unet/config.json", **fields)
    refused(copy, f"unet/config.json: {message}")


def test_other_kinds_of_autoencoders_are_refused(copy: Path) -> None:
    change(copy / "vae/config.json", latent_channels=16)
    refused(copy, "vae/config.json: 8 pixels a latent and 16 channels, expected 8 and 4")


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


def test_a_depth_unet_without_an_estimator_is_refused(depth: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(depth, tmp_path / "copy"))
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


def test_a_config_folder_goes_with_a_single_file_only(sd15: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder, which has configs of its own"):
        opening.open_source(opening.Source(sd15, config=sd15))


def test_a_model_that_is_not_there_is_refused(sd15: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny-sd15 has no depth_estimator") as caught:
        open_checkpoint(sd15).load("depth_estimator")
    assert "text_encoder, unet, vae, safety_checker" in caught.value.hint


def test_an_image_processor_that_is_not_there_is_refused(sd15: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny-sd15 has no image processor for vae"):
        open_checkpoint(sd15).processor("vae")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_vocabulary_is_named(copy: Path, name: str) -> None:
    (copy / "tokenizer" / name).unlink()
    with pytest.raises(CheckpointError, match=f"tokenizer/{name} is missing"):
        open_checkpoint(copy).tokenizer()


def test_image_processors_are_recorded(depth: Path, sd15: Path) -> None:
    assert open_checkpoint(depth).processor("depth_estimator")["height"] == 64
    assert tuple(open_checkpoint(sd15).processor("safety_checker")["crop"]) == (56, 56)


def test_an_image_processor_whose_size_follows_the_picture_is_refused(depth: Path) -> None:
    config = configs.read(depth / "feature_extractor/preprocessor_config.json")
    with pytest.raises(CheckpointError, match="the size of the pixel values depends on the picture"):
        processors.record({**config, "keep_aspect_ratio": True})


def test_an_unknown_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(CheckpointError, match="a component is a 'CLIPTextModl'") as caught:
        components.kind_of({"architectures": ["CLIPTextModl"]})
    assert "did you mean CLIPTextModel?" in caught.value.hint


Hub = Callable[[list[str]], list[str]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, sd15: Path) -> Hub:
    """A Hub with one repository, in which the files given are added to a checkpoint; returns what is fetched."""

    def serve(more: list[str]) -> list[str]:
        names = [path.relative_to(sd15).as_posix() for path in sd15.rglob("*") if path.is_file()] + more
        fetched: list[str] = []

        def info(api: object, repository: str, revision: str | None = None) -> Any:
            return SimpleNamespace(
                sha=f"commit-of-{revision}", siblings=[SimpleNamespace(rfilename=name) for name in names]
            )

        def download(repository: str, name: str, revision: str) -> str:
            fetched.append(f"{revision}:{name}")
            return str(sd15 / name)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return fetched

    return serve


def test_a_hub_id_is_fetched_at_one_commit_without_pickles_and_doubles(hub: Hub) -> None:
    fetched = hub(["v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.bin", "README.md",
                   "unet/diffusion_pytorch_model.fp16.safetensors", "unet/code.py"])  # fmt: skip
    checkpoint = open_checkpoint("owner/name", revision="main")
    assert (checkpoint.name, checkpoint.revision) == ("owner/name", "commit-of-main")
    assert {name.partition(":")[0] for name in fetched} == {"commit-of-main"}
    names = {name.partition(":")[2] for name in fetched}
    assert {name for name in names if name.startswith("unet/")} == {UNET, "unet/config.json"}
    assert all(
        (name.endswith((".json", ".txt", ".safetensors")) and "/" in name) or name == "model_index.json"
        for name in names
    )


def test_a_repository_in_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(api: object, repository: str, revision: str | None = None) -> Any:
        return SimpleNamespace(sha="0", siblings=[SimpleNamespace(rfilename="model.safetensors")])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    with pytest.raises(CheckpointError, match="owner/name is no checkpoint in diffusers' layout") as caught:
        open_checkpoint("owner/name")
    assert "--config FOLDER" in caught.value.hint


def test_a_hub_that_does_not_answer_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(api: object, repository: str, revision: str | None = None) -> Any:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    with pytest.raises(
        CheckpointError, match="owner/name could not be fetched from the Hub: no route to host"
    ) as caught:
        open_checkpoint("owner/name")
    assert "a folder works without a network" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "model.fp16.safetensors"], ("model.safetensors",)),
        (["model.fp16.safetensors", "pytorch_model.bin"], ("model.fp16.safetensors",)),
        (["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"],
         ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")),
        (["pytorch_model.bin"], ()),
    ],
)  # fmt: skip
def test_the_plain_weights_are_wanted_before_the_halved_ones(
    names: list[str], chosen: tuple[str, ...]
) -> None:
    assert weight_files.wanted(names, "model.safetensors") == chosen
