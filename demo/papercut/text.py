"""Text: the CLIP byte-pair tokenizer and the CLIP text encoder, both learned from captions."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
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
    CENTRES,
    COLOURS,
    RADII,
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
# The last CELLS x CELLS of the 77 tokens stand for cells of the picture; captions end well before them.
CELLS: Final = 6
# In radii: a little more than an item, so that its neighbourhood knows of it.
_REACH: Final = 1.2


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
    """A text encoder with linear heads that read what a caption says; the heads are thrown away afterwards.

    The padding of a caption is put to use: all of it together names the whole scene, and each of the last
    36 positions names what one cell of a 6 x 6 grid over the picture holds, and how far off that item's middle is.
    Cross-attention in the UNet then finds "what is here" in one place.
    """

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.scene_classes = (len(BACKGROUNDS), len(ARRANGEMENTS), *_ITEM_CLASSES, *_ITEM_CLASSES)
        self.cell_classes = (len(BACKGROUNDS), 2, *_ITEM_CLASSES)
        self.scene_heads = nn.Linear(encoder.config.hidden_size, sum(self.scene_classes))
        self.cell_heads = nn.Linear(encoder.config.hidden_size, sum(self.cell_classes) + 2)

    def forward(
        self, tokens: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], torch.Tensor]:
        """Logits of the scene (B, classes) and of cells (B, 36, classes), an attribute each; offsets (B, 36, 2)."""
        states = self.encoder(tokens).last_hidden_state
        scene = self.scene_heads(states[:, -(CELLS**2) :].mean(1)).split(self.scene_classes, dim=-1)
        *cells, offsets = self.cell_heads(states[:, -(CELLS**2) :]).split((*self.cell_classes, 2), dim=-1)
        return scene, tuple(cells), offsets


def pretrain_text_encoder(tokenizer: CLIPTokenizer, steps: int, seed: int, cache: Path) -> CLIPTextModel:
    """Bind words to attributes and places before any picture is seen; see `AttributeReader`."""
    torch.manual_seed(seed + 1)
    reader = AttributeReader(build_text_encoder(tokenizer)).to(device())

    def loss_at(step: int) -> torch.Tensor:
        generator = np.random.default_rng((seed, 3, step))
        scenes = [sample_scene(generator, "train") for _ in range(_BATCH)]
        tokens = tokenise(tokenizer, [sample_caption(scene, generator) for scene in scenes])
        with torch.autocast(device().type, torch.bfloat16):
            scene_logits, cell_logits, offsets = reader(tokens.to(device()))
        whole = torch.tensor([attributes(scene) for scene in scenes], device=device())
        cells, middles = (
            torch.from_numpy(np.stack(part)).to(device())
            for part in zip(*map(cell_targets, scenes), strict=True)
        )
        losses = [_classify(*pair) for pair in zip(scene_logits, whole.unbind(-1), strict=True)]
        losses += [_classify(*pair) for pair in zip(cell_logits, cells.unbind(-1), strict=True)]
        covered = cells[..., 1:2]
        off = functional.smooth_l1_loss(covered * offsets.float(), covered * middles)
        return torch.stack(losses).mean() + off

    fit(reader, loss_at, Schedule(steps, 1e-3, warmup=50, decay=0.6, average=0.99), cache / "text.pt")
    return reader.encoder


def _classify(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float().flatten(0, -2), target.flatten(), ignore_index=_ABSENT)


def attributes(scene: Scene) -> tuple[int, ...]:
    """Class indices: background, arrangement, then shape, colour, texture and size of either item."""
    second = _item_attributes(scene.items[1]) if len(scene.items) > 1 else (_ABSENT,) * len(_ITEM_CLASSES)
    whole = (tuple(BACKGROUNDS).index(scene.background), ARRANGEMENTS.index(scene.arrangement))
    return (*whole, *_item_attributes(scene.items[0]), *second)


def cell_targets(scene: Scene) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What each cell of the grid holds, by rows: classes (36, 6) and the way to its item's middle in radii (36, 2).

    The classes are the background, whether an item covers the cell's middle, and that item's shape, colour, texture
    and size (`_ABSENT` where none does).
    """
    middles = (np.indices((CELLS, CELLS))[::-1].reshape(2, -1).T + 0.5) / CELLS  # (x, y)
    classes = np.full((CELLS**2, 2 + len(_ITEM_CLASSES)), _ABSENT, dtype=np.int64)
    classes[:, 0], classes[:, 1] = tuple(BACKGROUNDS).index(scene.background), 0
    ways = np.zeros((CELLS**2, 2), dtype=np.float32)
    for item, place in zip(scene.items, CENTRES[scene.arrangement], strict=True):
        way = (np.asarray(place) - middles) / RADII[item.size]
        covered = np.linalg.norm(way, axis=1) < _REACH
        classes[covered, 1:] = (1, *_item_attributes(item))
        ways[covered] = way[covered]
    return classes, ways


def _item_attributes(item: Item) -> tuple[int, ...]:
    return (
        SHAPES.index(item.shape),
        tuple(COLOURS).index(item.colour),
        TEXTURES.index(item.texture),
        SIZES.index(item.size),
    )
