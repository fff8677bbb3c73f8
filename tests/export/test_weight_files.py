"""Weight files: plain, halved, in shards, and every way in which they can be broken."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from calotype.errors import CheckpointError
from calotype_export import weight_files
from calotype_export.checkpoint import open_checkpoint
from tests.export.spoiling import UNET, change, refused


def test_fp16_files_are_read_where_there_are_no_plain_ones(copy: Path, sd15_folder: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_file(copy / UNET).items()}
    save_file(half, copy / "unet/diffusion_pytorch_model.fp16.safetensors")
    (copy / UNET).unlink()
    plain = open_checkpoint(sd15_folder).load("unet").get_parameter("conv_in.weight")
    found = open_checkpoint(copy).load("unet").get_parameter("conv_in.weight")
    assert torch.equal(found, plain.half().float())


def split(folder: Path, mark: str = "") -> None:
    """Turn the UNet's weights into two shards and an index, whose names carry `mark`."""
    tensors = load_file(folder / UNET)
    (folder / UNET).unlink()
    names = sorted(tensors)
    places = {
        name: f"diffusion_pytorch_model{mark}-0000{1 + index % 2}-of-00002.safetensors"
        for index, name in enumerate(names)
    }
    for file in set(places.values()):
        part = {name: tensors[name] for name in names if places[name] == file}
        save_file(part, folder / "unet" / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{UNET}.index{mark}.json").write_text(json.dumps(index), "utf-8")


@pytest.mark.parametrize("mark", ["", ".fp16"])
def test_weights_in_shards_are_read(copy: Path, sd15_folder: Path, mark: str) -> None:
    split(copy, mark)
    plain, found = (open_checkpoint(path).load("unet").state_dict() for path in (sd15_folder, copy))
    assert all(torch.equal(value, found[name]) for name, value in plain.items())


def test_a_missing_shard_is_named(copy: Path) -> None:
    split(copy)
    (copy / "unet/diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    refused(copy, "unet/diffusion_pytorch_model-00002-of-00002.safetensors is missing")


@pytest.mark.parametrize("name", ["../vae/diffusion_pytorch_model.safetensors", "weights.bin"])
def test_an_index_that_names_other_files_is_refused(copy: Path, name: str) -> None:
    split(copy)
    change(copy / f"{UNET}.index.json", weight_map={"conv_in.weight": name})
    refused(copy, f"names '{name}', which is no safetensors file beside it")


@pytest.mark.parametrize("places", [None, {}, {"conv_in.weight": 3}, {"conv_in.weight": ["a.safetensors"]}])
def test_an_index_without_a_map_of_names_is_refused(copy: Path, places: Any) -> None:
    split(copy)
    change(copy / f"{UNET}.index.json", weight_map=places)
    refused(copy, "is no index of weight files")


def test_an_index_that_is_a_list_is_refused(copy: Path) -> None:
    split(copy)
    (copy / f"{UNET}.index.json").write_text("[]", "utf-8")
    refused(copy, "is no index of weight files")


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"])
def test_weights_in_a_pickle_are_refused_with_what_to_do(copy: Path, suffix: str) -> None:
    (copy / UNET).rename(copy / f"unet/diffusion_pytorch_model{suffix}")
    hint = refused(copy, rf"unet has its weights in a pickle only: diffusion_pytorch_model\{suffix}")
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


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "model.fp16.safetensors"], ("model.safetensors",)),
        (["model.fp16.safetensors", "pytorch_model.bin"], ("model.fp16.safetensors",)),
        (["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"],
         ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")),
        (["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"],
         ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors")),
        (["pytorch_model.bin"], ()),
    ],
)  # fmt: skip
def test_the_plain_weights_are_wanted_before_the_halved_ones(
    names: list[str], chosen: tuple[str, ...]
) -> None:
    assert weight_files.wanted(names, "model.safetensors") == chosen


def test_a_digest_is_of_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "_BLOCK", 4)
    (tmp_path / "a").write_bytes(b"0123456789")
    assert weight_files.digest(tmp_path / "a") == hashlib.sha256(b"0123456789").hexdigest()


def test_hashing_reports_mebibytes(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    (tmp_path / "a").write_bytes(b"a" * 2**20)
    (tmp_path / "b").write_bytes(b"b")
    found = weight_files.digests([tmp_path / "a", tmp_path / "b"], lambda *report: seen.append(report))
    assert found[tmp_path / "b"] == hashlib.sha256(b"b").hexdigest()
    assert seen == [("hash weights (MiB)", done, 2) for done in (0, 1, 2)]


COMPONENTS = {
    "unet": (UNET, "time_embedding.linear_1.bias"),
    "vae": ("vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.bias"),
    "text_encoder": ("text_encoder/model.safetensors", "text_model.final_layer_norm.bias"),
    "safety_checker": ("safety_checker/model.safetensors", "special_care_embeds_weights"),
}


@pytest.mark.parametrize("component", COMPONENTS)
def test_missing_tensors_are_named_with_those_that_the_model_has_not(copy: Path, component: str) -> None:
    file, name = COMPONENTS[component]
    tensors = load_file(copy / file)
    tensors["else"] = tensors.pop(name)
    save_file(tensors, copy / file, {"format": "pt"})
    message = f"{component}: the weights lack {name}, which config.json asks for; the model has no else"
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(copy).load(component, torch.float16)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_tensor_of_another_shape_is_named(copy: Path, component: str) -> None:
    file, name = COMPONENTS[component]
    save_file({**load_file(copy / file), name: torch.zeros(3, 5)}, copy / file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{component}: .* fit config.json: {name} .*\b3, 5\b"):
        open_checkpoint(copy).load(component)


def test_old_spellings_and_counted_positions_are_no_misfit(copy: Path) -> None:
    file, _ = COMPONENTS["vae"]
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(copy / file)
    for name in [name for name in tensors if ".attentions." in name]:
        old = next((name.replace(*pair) for pair in names.items() if pair[0] in name), name)
        tensors[old] = tensors.pop(name)
    save_file(tensors, copy / file, {"format": "pt"})
    file, _ = COMPONENTS["text_encoder"]
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file({**load_file(copy / file), **positions}, copy / file, {"format": "pt"})
    for component in ("vae", "text_encoder"):
        assert open_checkpoint(copy).load(component)


def test_a_depth_estimator_may_lack_what_it_never_uses(depth_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(depth_folder, tmp_path / "copy"))
    file = folder / "depth_estimator/model.safetensors"
    tensors = load_file(file)
    unused = {name for name in tensors if name.startswith("neck.fusion_stage.layers.0.residual_layer1.")}
    assert unused
    save_file({name: tensors[name] for name in tensors if name not in unused}, file, {"format": "pt"})
    assert open_checkpoint(folder).load("depth_estimator")
