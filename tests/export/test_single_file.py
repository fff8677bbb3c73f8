"""Single-file checkpoints in the original naming, made here from a tiny one by a table of names of our own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from calotype.errors import CheckpointError
from calotype_export import synthetic
from calotype_export.checkpoint import Checkpoint, open_checkpoint
from calotype_export.opening import Source, open_source
from calotype_export.single_file import open_single_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
TOP = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
       "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip
VAE = {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q", "to_k": "k",
       "to_v": "v", "to_out.0": "proj_out", "downsamplers.0": "downsample", "upsamplers.0": "upsample"}  # fmt: skip


def unet_name(name: str) -> str:
    """The original name of a tensor of a UNet with four levels of one resnet each."""
    for ours, theirs in TOP.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    kind, *parts = name.split(".")
    if kind == "mid_block":
        block, place, rest = (
            "middle_block",
            {"resnets0": "0", "attentions0": "1", "resnets1": "2"}["".join(parts[:2])],
            parts[2:],
        )
    else:
        level, what, index, rest = int(parts[0]), parts[1], int(parts[2]), parts[3:]
        attends = level < 3 if kind == "down_blocks" else level > 0
        slot = {"resnets": "0", "attentions": "1"}
        if kind == "down_blocks":
            block = f"input_blocks.{1 + 2 * level + (index if what in slot else 1)}"
            place = slot.get(what, "0")
            rest = ["op", *rest[1:]] if what == "downsamplers" else rest
        else:
            block = f"output_blocks.{2 * level + (index if what in slot else 1)}"
            place = slot.get(what, "2" if attends else "1")
    if "resnets" in name:
        rest = [RESNET[rest[0]], *rest[1:]]
    return ".".join([block, place, *rest])


def vae_name(name: str) -> str:
    """The original name of a tensor of a VAE with four levels."""
    for ours, theirs in VAE.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    name = name.replace("mid_block.resnets.1", "mid.block_2").replace("mid_block.resnets.0", "mid.block_1")
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace(".resnets.", ".block.")
    parts = name.split(".")
    if parts[1] == "down_blocks":
        parts[1] = "down"
    if parts[1] == "up_blocks":
        parts[1:3] = ["up", str(3 - int(parts[2]))]
    return ".".join(parts)


def original(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors of a folder under their original names."""
    tensors: dict[str, Tensor] = {}
    for name, value in load_file(checkpoint / "unet/diffusion_pytorch_model.safetensors").items():
        tensors[f"model.diffusion_model.{unet_name(name)}"] = value
    for name, value in load_file(checkpoint / "vae/diffusion_pytorch_model.safetensors").items():
        convolved = ".attentions." in name and name.endswith("weight") and value.ndim == 2
        tensors[f"first_stage_model.{vae_name(name)}"] = value[:, :, None, None] if convolved else value
    for name, value in load_file(checkpoint / "text_encoder/model.safetensors").items():
        tensors[f"cond_stage_model.transformer.{name}"] = value
    return {name: value.contiguous() for name, value in tensors.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write("tiny-sd15", tmp_path_factory.mktemp("single") / "tiny-sd15")


@pytest.fixture(scope="module")
def configs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder without its weights."""
    target = tmp_path_factory.mktemp("single") / "configs"
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors")))


@pytest.fixture(scope="module")
def file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    save_file(original(folder), path)
    return path


@pytest.fixture(scope="module")
def single(file: Path, configs: Path) -> Checkpoint:
    return open_source(Source(file, config=configs))


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_every_weight_of_the_file_is_read(single: Checkpoint, folder: Path, component: str) -> None:
    expected = open_checkpoint(folder).load(component).state_dict()
    found = single.load(component).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_models_come_in_the_dtype_asked_for(single: Checkpoint) -> None:
    for component in single.components:
        module = single.load(component, torch.float16)
        assert {value.dtype for value in module.parameters()} == {torch.float16}
        assert not module.training


def test_a_safety_checker_without_weights_is_left_out(single: Checkpoint) -> None:
    assert single.components == ("text_encoder", "unet", "vae")


def test_a_safety_checker_with_weights_beside_the_configs_is_read(file: Path, folder: Path) -> None:
    single = open_single_file(file, folder)
    assert single.load("safety_checker").get_parameter("visual_projection.weight").shape == (32, 32)


def test_the_source_names_the_file(single: Checkpoint) -> None:
    assert single.source()["checkpoint"] == "model.safetensors"
    assert list(single.source()["sha256"]) == ["model.safetensors"]


def test_the_eager_pipeline_draws(single: Checkpoint) -> None:
    assert single.pipeline()("a cat", num_inference_steps=1, output_type="np").images.shape == (
        1,
        128,
        128,
        3,
    )


def test_a_file_without_a_component_is_refused_by_its_name(
    folder: Path, configs: Path, tmp_path: Path
) -> None:
    tensors = {name: value for name, value in original(folder).items() if not name.startswith("cond")}
    save_file(tensors, tmp_path / "partial.safetensors")
    message = r"partial\.safetensors has no text_encoder: no tensor's name starts with cond_stage_model\.transformer\."
    with pytest.raises(CheckpointError, match=message):
        open_single_file(tmp_path / "partial.safetensors", configs)


@pytest.mark.parametrize(
    ("component", "gone", "named"),
    [
        ("unet", "model.diffusion_model.time_embed.0.bias", r"time_embedding\.linear_1\.bias"),
        ("vae", "first_stage_model.encoder.conv_in.bias", r"encoder\.conv_in\.bias"),
        (
            "text_encoder",
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            r"text_model\.final_layer_norm\.bias",
        ),
    ],
)
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(
    folder: Path, configs: Path, tmp_path: Path, component: str, gone: str, named: str
) -> None:
    tensors = original(folder)
    save_file({**tensors, gone: torch.zeros(3, 5)}, tmp_path / "partial.safetensors")
    single = open_single_file(tmp_path / "partial.safetensors", configs)
    with pytest.raises(CheckpointError, match=rf"partial\.safetensors: {component}: .* \S+ expected shape"):
        single.load(component)
    del tensors[gone]
    save_file(tensors, tmp_path / "partial.safetensors")
    with pytest.raises(CheckpointError, match=rf"{component}: the weights lack {named}, which config\.json"):
        single.load(component, torch.float16)


def test_a_text_encoder_may_be_named_as_open_clip_names_it(
    folder: Path, configs: Path, tmp_path: Path
) -> None:
    tensors = {name: value for name, value in original(folder).items() if not name.startswith("cond")}
    named = {"cond_stage_model.model.ln_final.bias": torch.zeros(32)}
    save_file({**tensors, **named}, tmp_path / "open.safetensors")
    assert "text_encoder" in open_single_file(tmp_path / "open.safetensors", configs).components


def test_a_cut_off_file_is_refused(file: Path, configs: Path, tmp_path: Path) -> None:
    (tmp_path / "short.safetensors").write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"short\.safetensors is cut off"):
        open_single_file(tmp_path / "short.safetensors", configs)


def test_a_pickle_is_refused(configs: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"model\.ckpt is no \.safetensors file") as caught:
        open_single_file(tmp_path / "model.ckpt", configs)
    assert "a pickle runs code" in caught.value.hint


def test_a_missing_file_is_named(configs: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file"):
        open_single_file(tmp_path / "model.safetensors", configs)


def test_a_missing_config_folder_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder") as caught:
        open_single_file(file, tmp_path / "configs")
    assert "--config takes a checkpoint's folder" in caught.value.hint
