"""What a merged checkpoint says was merged, and how often its weights are rounded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from calotype_export import weight_files
from calotype_export.adapters import EmbeddingFile
from calotype_export.checkpoint import Checkpoint, open_checkpoint
from calotype_export.merge import merged

WEIGHT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def checkpoint(sd15_folder: Path) -> Checkpoint:
    return open_checkpoint(sd15_folder)


def lora(path: Path, scale: float = 0.3) -> LoraFile:
    random = torch.Generator().manual_seed(1)
    halves = {"A": torch.randn(4, 32, generator=random), "B": torch.randn(32, 4, generator=random)}
    save_file({f"unet.{WEIGHT}.lora_{half}.weight": scale * value for half, value in halves.items()}, path)
    return LoraFile(path)


def test_every_file_that_was_merged_is_recorded_with_its_own_digest(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    first, second, word = (tmp_path / f"{name}.safetensors" for name in ("first", "second", "word"))
    save_file({"<dog>": torch.zeros(32)}, word)
    once = merged(checkpoint, [lora(first)])
    twice = merged(once, [lora(second, 0.1)], [EmbeddingFile(word)])
    assert twice.source()["merged"] == {
        "first.safetensors:1": weight_files.digest(first),
        "second.safetensors:1": weight_files.digest(second),
        "word.safetensors:<dog>": weight_files.digest(word),
    }


def test_files_of_one_name_are_recorded_each(checkpoint: Checkpoint, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "style.safetensors" for folder in ("one", "two", "three")]
    for path in paths:
        path.parent.mkdir()
    found = merged(checkpoint, [lora(path, 0.1 + index / 7) for index, path in enumerate(paths)])
    names = ("style.safetensors:1", "style.safetensors:1 (2)", "style.safetensors:1 (3)")
    assert found.source()["merged"] == {
        name: weight_files.digest(path) for name, path in zip(names, paths, strict=True)
    }


def test_weights_in_half_precision_are_rounded_once_for_all_loras(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    files = [lora(tmp_path / f"{index}.safetensors", 0.1 + index / 7) for index in range(3)]
    name = f"{WEIGHT}.weight"
    before = checkpoint.load("unet", torch.float16).get_parameter(name).float()
    alone = [merged(checkpoint, [file]).load("unet").get_parameter(name) for file in files]
    exact = before + sum(each - checkpoint.load("unet").get_parameter(name) for each in alone)
    found = merged(checkpoint, files).load("unet", torch.float16).get_parameter(name)
    step = torch.finfo(torch.float16).eps * exact.abs().clamp(min=2**-14)
    assert found.dtype == torch.float16
    assert ((found.float() - exact).abs() <= 0.51 * step).all()


def test_a_word_that_ends_another_in_the_vocabulary_is_known_too(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    vocabulary = checkpoint.tokenizer().get_vocab()
    end = "</w>"
    whole = (name.removesuffix(end) for name in sorted(vocabulary) if name.endswith(end))
    known = next(name for name in whole if len(name) > 1 and name.isalpha() and name not in vocabulary)
    save_file({known: torch.zeros(32)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=f"the tokenizer knows the word '{known}' already"):
        merged(checkpoint, embeddings=[EmbeddingFile(tmp_path / "a.safetensors")])


def test_two_files_for_one_word_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    files: list[EmbeddingFile] = []
    for name in ("a", "b"):
        save_file({"emb_params": torch.zeros(32)}, tmp_path / f"{name}.safetensors")
        files.append(EmbeddingFile(tmp_path / f"{name}.safetensors", "<dog>"))
    with pytest.raises(
        CheckpointError, match=r"b\.safetensors: the tokenizer knows the word '<dog>' already"
    ):
        merged(checkpoint, embeddings=files)
