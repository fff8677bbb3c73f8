"""LoRA files and textual inversions, against diffusers' own way of loading them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from calotype_export import build, synthetic
from calotype_export.adapters import EmbeddingFile
from calotype_export.build import BuildOptions
from calotype_export.checkpoint import Checkpoint, open_checkpoint
from calotype_export.merge import merged

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
TEXT = "encoder.layers.1.self_attn"
RANK = 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(synthetic.write("tiny-sd15", tmp_path_factory.mktemp("merge") / "tiny-sd15"))


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.3


LINEAR = (_random(RANK, 32), _random(32, RANK))
CONVOLUTION = (_random(RANK, 32, 3, 3), _random(32, RANK, 1, 1))


def kohya() -> dict[str, Tensor]:
    """A LoRA for an attention, a convolution and the text encoder, as kohya's scripts write it."""
    targets = {
        f"lora_unet_{ATTENTION}.to_q".replace(".", "_"): LINEAR,
        f"lora_unet_{ATTENTION}.to_out.0".replace(".", "_"): LINEAR,
        "lora_unet_down_blocks_0_resnets_0_conv1": CONVOLUTION,
        f"lora_te_text_model.{TEXT}.q_proj".replace(".", "_"): LINEAR,
        f"lora_te_text_model.{TEXT}.out_proj".replace(".", "_"): LINEAR,
    }
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in targets.items():
        tensors |= {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{name}.alpha": torch.tensor(2.0),
        }
    return tensors


def peft() -> dict[str, Tensor]:
    """The same for PEFT, without the convolution."""
    unet = (f"unet.{ATTENTION}.to_q", f"unet.{ATTENTION}.to_out.0")
    text = (f"text_encoder.text_model.{TEXT}.q_proj", f"text_encoder.text_model.{TEXT}.out_proj")
    return {f"{name}.lora_{half}.weight": LINEAR[half == "B"] for name in (*unet, *text) for half in "AB"}


def old_diffusers() -> dict[str, Tensor]:
    """The same in the names of diffusers' attention processors."""
    unet = (f"unet.{ATTENTION}.processor.to_q_lora", f"unet.{ATTENTION}.processor.to_out_lora")
    text = (f"text_encoder.text_model.{TEXT}.to_q_lora", f"text_encoder.text_model.{TEXT}.to_out_lora")
    return {
        f"{name}.{half}.weight": LINEAR[half == "up"] for name in (*unet, *text) for half in ("down", "up")
    }


def stored(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    path = folder / "adapter.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize(
    ("tensors", "counts"),
    [(kohya(), {"unet": 3, "text_encoder": 2}), (peft(), {"unet": 2, "text_encoder": 2})],
    ids=["kohya", "peft"],
)
def test_a_merged_lora_equals_diffusers_fused_one(
    checkpoint: Checkpoint, tmp_path: Path, tensors: dict[str, Tensor], counts: dict[str, int]
) -> None:
    path = stored(tmp_path, tensors)
    pipeline = checkpoint.pipeline()
    pipeline.load_lora_weights(str(path))
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    ours = merged(checkpoint, [LoraFile(path, 0.7)])
    for name, count in counts.items():
        theirs, before = getattr(pipeline, name).state_dict(), checkpoint.load(name).state_dict()
        found = ours.load(name).state_dict()
        assert sum(not torch.equal(value, before[key]) for key, value in found.items()) == count
        for key, value in found.items():
            torch.testing.assert_close(value, theirs[key], rtol=0, atol=1e-6)


def test_old_names_mean_the_same_as_new_ones(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old = merged(checkpoint, [LoraFile(stored(tmp_path, old_diffusers()))])
    new = merged(checkpoint, [LoraFile(stored(tmp_path / "new", peft()))])
    for name in ("unet", "text_encoder"):
        found = old.load(name).state_dict()
        assert all(torch.equal(value, found[key]) for key, value in new.load(name).state_dict().items())


def test_alpha_in_the_metadata_counts(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    tensors = {name: value for name, value in peft().items() if name.startswith("unet") and "to_q" in name}
    save_file(tensors, path, {"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 8}'})
    found = merged(checkpoint, [LoraFile(path)]).load("unet").get_parameter(f"{ATTENTION}.to_q.weight")
    before = checkpoint.load("unet").get_parameter(f"{ATTENTION}.to_q.weight")
    torch.testing.assert_close(found, before + 2 * LINEAR[1] @ LINEAR[0])


def test_several_loras_add_up(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = stored(tmp_path, peft())
    twice = merged(checkpoint, [LoraFile(path, 0.25), LoraFile(path, 0.5)]).load("unet")
    once = merged(checkpoint, [LoraFile(path, 0.75)]).load("unet")
    name = f"{ATTENTION}.to_q.weight"
    torch.testing.assert_close(twice.get_parameter(name), once.get_parameter(name))


def test_what_was_merged_is_recorded_with_its_digest(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = merged(checkpoint, [LoraFile(stored(tmp_path, peft()), 0.5)]).source()
    assert list(source["merged"]) == ["adapter.safetensors:0.5"]
    assert re.fullmatch("[0-9a-f]{64}", source["merged"]["adapter.safetensors:0.5"])


def test_an_export_starts_from_the_merged_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = stored(tmp_path, peft())
    options = BuildOptions(checkpoint.root, tmp_path / "bundle", loras=(LoraFile(path),))
    assert list(build.opened(options).checkpoint.additions) == ["adapter.safetensors:1"]


def refused(checkpoint: Checkpoint, path: Path, message: str) -> str:
    with pytest.raises(CheckpointError, match=message) as caught:
        merged(checkpoint, [LoraFile(path)])
    return caught.value.hint


def test_unknown_tensors_of_a_lora_are_listed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    more = {f"lora_unet_input_blocks_{index}.dora_scale": torch.ones(1) for index in range(10)}
    path = stored(tmp_path, {**kohya(), **more})
    refused(
        checkpoint,
        path,
        r"lora_unet_input_blocks_0\.dora_scale, .*lora_unet_input_blocks_9\.dora_scale belong to no weight",
    )


def test_half_a_pair_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = stored(tmp_path, {key: value for key, value in peft().items() if "lora_B" not in key})
    refused(checkpoint, path, r"to_q \(half of a pair\)")


def test_a_lora_of_another_width_is_refused_with_the_shapes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = f"unet.{ATTENTION}.to_q"
    path = stored(
        tmp_path, {f"{name}.lora_A.weight": _random(4, 320), f"{name}.lora_B.weight": _random(320, 4)}
    )
    message = r"to_q has shape \(32, 32\) in this checkpoint; found up \(320, 4\) and down \(4, 320\)"
    assert "another family" in refused(checkpoint, path, message)


def test_a_missing_file_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    refused(checkpoint, tmp_path / "none.safetensors", r"there is no file .*none\.safetensors")


def test_a_pickle_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "style.pt").touch()
    assert "a pickle runs code" in refused(
        checkpoint, tmp_path / "style.pt", r"style\.pt is no \.safetensors file"
    )


PROMPTS = ("a photo of <dog> in the rain", "<dog>", "A <DOG>,<dog>!", "no such animal")


@pytest.mark.parametrize("vectors", [_random(32), _random(3, 32)], ids=["one vector", "three vectors"])
def test_a_textual_inversion_gives_diffusers_hidden_states(
    checkpoint: Checkpoint, tmp_path: Path, vectors: Tensor
) -> None:
    path = stored(tmp_path, {"<dog>": vectors})
    theirs = checkpoint.pipeline()
    theirs.load_textual_inversion(str(path), token="<dog>")
    ours = merged(checkpoint, embeddings=[EmbeddingFile(path)])
    text_encoder: Any = ours.load("text_encoder")
    tokenizer = ours.tokenizer()
    for prompt in (PROMPTS[0], PROMPTS[1], PROMPTS[3]):
        expected, _ = theirs.encode_prompt(prompt, "cpu", 1, False)
        ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        torch.testing.assert_close(text_encoder(ids)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_the_stored_tokenizer_knows_the_word_in_any_case(
    checkpoint: Checkpoint, tmp_path: Path, count: int
) -> None:
    path = stored(tmp_path, {"emb_params": _random(count, 32)})
    tokenizer = merged(checkpoint, embeddings=[EmbeddingFile(path, "<dog>")]).tokenizer()
    read: Any = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    word = list(range(3000, 3000 + count))
    for prompt in PROMPTS:
        ids = read.encode(prompt).ids
        assert ids == tokenizer(prompt).input_ids
        assert [token for token in ids if token >= 3000] == word * prompt.lower().count("<dog>")


def test_two_words_keep_their_own_vectors(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first, second = tmp_path / "sks.safetensors", tmp_path / "sks2.safetensors"
    save_file({"emb_params": torch.full((2, 32), 1.0)}, first)
    save_file({"emb_params": torch.full((2, 32), 2.0)}, second)
    both = merged(checkpoint, embeddings=[EmbeddingFile(first), EmbeddingFile(second)])
    encoder: Any = both.load("text_encoder")
    ids = both.tokenizer()("sks2 sks").input_ids[1:-1]
    assert encoder.get_input_embeddings().weight[ids].mean(1).tolist() == [2.0, 2.0, 1.0, 1.0]


def test_a_word_that_is_known_is_refused_with_what_to_do(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = stored(tmp_path, {"cat": _random(32)})
    with pytest.raises(CheckpointError, match="the tokenizer knows the word 'cat' already") as caught:
        merged(checkpoint, embeddings=[EmbeddingFile(path)])
    assert "--embedding adapter.safetensors:WORD" in caught.value.hint


def test_an_embedding_of_another_width_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = stored(tmp_path, {"<dog>": _random(2, 768)})
    with pytest.raises(CheckpointError, match=r"the embedding has shape \(2, 768\), expected vectors of 32"):
        merged(checkpoint, embeddings=[EmbeddingFile(path)])


def test_an_embedding_for_two_text_encoders_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = stored(tmp_path, {"clip_g": _random(2, 1280), "clip_l": _random(2, 768)})
    with pytest.raises(CheckpointError, match="expected one tensor, found clip_g, clip_l"):
        merged(checkpoint, embeddings=[EmbeddingFile(path)])
