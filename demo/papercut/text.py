"""Text: the CLIP byte-pair tokenizer and the CLIP text encoder, both learned from captions."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from papercut.autoencoder import device
from papercut.captions import sample_caption
from papercut.loop import Schedule, fit
from papercut.scenes import (
    ARRANGEMENTS,
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    TEXTURES,
    Item,
    Scene,
    sample_scene,
)

TOKENS: Final = 77
_MERGES: Final = 400
_CAPTIONS_FOR_MERGES: Final = 4000
_BATCH: Final = 64
_START, _END = "<|startoftext|>", "<|endoftext|>"
_ITEM_CLASSES: Final = (len(SHAPES), len(COLOURS), len(TEXTURES), len(SIZES))
_ABSENT: Final = -100


def train_tokenizer(seed: int) -> CLIPTokenizer:
    """Learn merges from captions; all 512 byte symbols stay, so that any text can be written."""
    generator = np.random.default_rng((seed, 2))
    captions = [
        sample_caption(sample_scene(generator, "train"), generator) for _ in range(_CAPTIONS_FOR_MERGES)
    ]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    reference = CLIPTokenizer().backend_tokenizer
    learner.normalizer, learner.pre_tokenizer = reference.normalizer, reference.pre_tokenizer
    symbols = sorted(ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512 + _MERGES, initial_alphabet=symbols, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(captions, trainer)
    merges: list[Any] = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    words = [
        *symbols,
        *(f"{symbol}</w>" for symbol in symbols),
        *("".join(merge) for merge in merges),
        _START,
        _END,
    ]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def tokenise(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids (B, T), padded and cut to T = 77 as Stable Diffusion does."""
    encoded = tokenizer(
        captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    )
    return encoded["input_ids"]


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small `CLIPTextModel` with embeddings (B, 77, 128)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            projection_dim=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class AttributeReader(nn.Module):
    """A text encoder with linear heads that read a scene's attributes; the heads are thrown away afterwards."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.classes = (len(BACKGROUNDS), len(ARRANGEMENTS), *_ITEM_CLASSES, *_ITEM_CLASSES)
        self.heads = nn.Linear(encoder.config.hidden_size, sum(self.classes))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits, one tensor (B, P, classes) per attribute, at P positions from the end of the text on."""
        states = self.encoder(tokens).last_hidden_state
        return self.heads(states[:, 40:TOKENS:6]).split(self.classes, dim=-1)


def pretrain_text_encoder(tokenizer: CLIPTokenizer, steps: int, seed: int, cache: Path) -> CLIPTextModel:
    """Bind words to attributes before any picture is seen: predict a scene's attributes from its caption."""
    torch.manual_seed(seed + 1)
    reader = AttributeReader(build_text_encoder(tokenizer)).to(device())

    def loss_at(step: int) -> torch.Tensor:
        generator = np.random.default_rng((seed, 3, step))
        scenes = [sample_scene(generator, "train") for _ in range(_BATCH)]
        tokens = tokenise(tokenizer, [sample_caption(scene, generator) for scene in scenes])
        targets = torch.tensor([attributes(scene) for scene in scenes], device=device())
        losses = [
            functional.cross_entropy(logits.mean(1), target, ignore_index=_ABSENT)
            + functional.cross_entropy(logits[:, step % logits.shape[1]], target, ignore_index=_ABSENT)
            for logits, target in zip(reader(tokens.to(device())), targets.T, strict=True)
        ]
        return torch.stack(losses).mean()

    fit(reader, loss_at, Schedule(steps, 1e-3, warmup=50, decay=0.6, average=0.99), cache / "text.pt")
    return reader.encoder


def attributes(scene: Scene) -> tuple[int, ...]:
    """Class indices: background, arrangement, then shape, colour, texture and size of either item."""
    second = _item_attributes(scene.items[1]) if len(scene.items) > 1 else (_ABSENT,) * len(_ITEM_CLASSES)
    whole = (tuple(BACKGROUNDS).index(scene.background), ARRANGEMENTS.index(scene.arrangement))
    return (*whole, *_item_attributes(scene.items[0]), *second)


def _item_attributes(item: Item) -> tuple[int, ...]:
    return (
        SHAPES.index(item.shape),
        tuple(COLOURS).index(item.colour),
        TEXTURES.index(item.texture),
        SIZES.index(item.size),
    )
