"""Merge LoRA files and textual inversions into a checkpoint: a Checkpoint in, one that loads changed models out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, normalizers
from torch import Tensor

from calotype import lora
from calotype.errors import CheckpointError
from calotype.lora import Delta, LoraFile
from calotype_export import adapters, components, weight_files
from calotype_export.adapters import EmbeddingFile
from calotype_export.checkpoint import Checkpoint, Component

_PRIVATE = 0xE000  # Unicode's private use area: names for the vectors of a word that has several


def merged(
    checkpoint: Checkpoint, loras: Sequence[LoraFile] = (), embeddings: Sequence[EmbeddingFile] = ()
) -> Checkpoint:
    """`checkpoint` with the files merged in whenever a model or the tokenizer is loaded.

    Raises CheckpointError for files that do not fit, before anything is loaded.
    """
    shapes = (
        {name: shapes_of(checkpoint.models[name].config) for name in ("unet", "text_encoder")}
        if loras
        else {}
    )
    changes = [lora.read(file, shapes) for file in loras]
    words = _words(checkpoint, embeddings)
    first = len(checkpoint.tokenizer()) if words else 0

    def read(component: Component, dtype: torch.dtype) -> torch.nn.Module:
        module = checkpoint.read(component, dtype)
        merge_lora(module, [change.get(component.name, {}) for change in changes])
        if component.name == "text_encoder" and words:
            add_vectors(module, first, torch.cat(list(words.values())))
        return module

    def read_tokenizer(folder: Path) -> Any:
        tokenizer = checkpoint.read_tokenizer(folder)
        if words:
            add_words(tokenizer, {word: len(vectors) for word, vectors in words.items()})
        return tokenizer

    files = [*(file.path for file in loras), *(file.path for file in embeddings)]
    notes = [f":{file.weight:g}" for file in loras] + [f":{word}" for word in words]
    additions = dict(checkpoint.additions)
    for path, note in zip(files, notes, strict=True):
        additions[_unlike(additions, path.name + note)] = weight_files.digest(path)
    return dataclasses.replace(checkpoint, read=read, read_tokenizer=read_tokenizer, additions=additions)


def _unlike(names: Collection[str], name: str) -> str:
    """`name`, or where files of several folders have it, with a number behind it."""
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in names)


def merge_lora(module: torch.nn.Module, changes: Sequence[Mapping[str, Delta]]) -> None:
    """Add every change to the weight of its name, in place; a weight is rounded to its type once."""
    for name in dict.fromkeys(name for change in changes for name in change):
        weight = module.get_parameter(f"{name}.weight")
        changed = weight.data.float().numpy()
        for change in changes:
            changed = change[name].added_to(changed) if name in change else changed
        weight.data = torch.from_numpy(changed).to(weight.dtype)


def add_vectors(text_encoder: Any, first: int, vectors: Tensor) -> None:
    """Give the text encoder the rows `first`, `first` + 1, ... of its table of token embeddings."""
    table = text_encoder.get_input_embeddings().weight.data  # (tokens, D)
    rows = max(len(table), first + len(vectors))
    grown = table.new_zeros(rows, table.shape[1])
    grown[: len(table)] = table
    grown[first : first + len(vectors)] = vectors.to(table.dtype)
    text_encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(grown))
    text_encoder.config.vocab_size = rows


def add_words(tokenizer: Any, words: Mapping[str, int]) -> None:
    """Teach `tokenizer` words that stand for one token or, replaced while normalising, for several.

    Words are found in lower case, as CLIP's tokenizer finds everything. Ids follow the order of `words`.
    """
    expansions: dict[str, str] = {}
    code = _PRIVATE
    for word, count in words.items():
        names = [word] if count == 1 else [chr(code + index) for index in range(count)]
        code += 0 if count == 1 else count
        tokenizer.add_tokens([AddedToken(name, normalized=True) for name in names])
        if count > 1:
            expansions[word.lower()] = "".join(names)
    longest_first = sorted(expansions, key=len, reverse=True)
    backend = tokenizer.backend_tokenizer
    replacements = [normalizers.Replace(word, expansions[word]) for word in longest_first]
    if replacements:
        backend.normalizer = normalizers.Sequence([backend.normalizer, *replacements])


def _words(checkpoint: Checkpoint, files: Sequence[EmbeddingFile]) -> dict[str, Tensor]:
    """Vectors (n, D) of each new word."""
    if not files:
        return {}
    width = int(checkpoint.models["text_encoder"].config["hidden_size"])
    known = checkpoint.tokenizer().get_vocab()
    words: dict[str, Tensor] = {}
    for file in files:
        word, vectors = adapters.read_embedding(file, width)
        if word in words or word in known or f"{word}</w>" in known:
            raise CheckpointError(f"{file.path.name}: the tokenizer knows the word {word!r} already",
                                  f"choose another: --embedding {file.path.name}:WORD")  # fmt: skip
        words[word] = vectors
    return words


def shapes_of(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights with two or more dimensions, by name without `.weight`."""
    state = components.skeleton(config).state_dict()
    found = {name.removesuffix(".weight"): tuple(value.shape) for name, value in state.items()}
    return {name: shape for name, shape in found.items() if len(shape) > 1}
