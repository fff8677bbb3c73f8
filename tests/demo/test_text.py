"""The shipped tokenizer takes any text, and says what the training wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from papercut.checkpoints import TEXT_TO_IMAGE
from papercut.scenes import CENTRES, RADII, Item, Scene
from papercut.text import CELLS, TOKENS, cell_targets, tokenise, train_tokenizer

DEMO = Path(__file__).parents[2] / "demo"


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(DEMO / TEXT_TO_IMAGE / "tokenizer")


def test_a_word_of_the_captions_is_one_token(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.tokenize("a striped crescent") == ["a</w>", "striped</w>", "crescent</w>"]


@pytest.mark.parametrize("text", ["zebra", "naïve 漢字 🙂", "42!", "¯\\_(ツ)_/¯"])
def test_any_text_has_tokens_and_none_is_unknown(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text)["input_ids"][1:-1]
    assert ids and tokenizer.unk_token_id not in ids


def test_prompts_are_padded_and_cut_to_77_tokens(tokenizer: CLIPTokenizer) -> None:
    tokens = tokenise(tokenizer, ["", "red " * 200])
    assert tokens.shape == (2, TOKENS)
    assert tokens[0, 1:].tolist() == [tokenizer.eos_token_id] * (TOKENS - 1)
    assert tokens[1, -1] == tokenizer.eos_token_id


def test_training_writes_the_tokenizer_that_is_shipped(tokenizer: CLIPTokenizer) -> None:
    assert train_tokenizer(seed=20).get_vocab() == tokenizer.get_vocab()


def test_the_cell_in_an_items_middle_names_it_and_a_corner_names_nothing() -> None:
    item = Item("ring", "blue", "dotted", "large", CENTRES["left"][0], RADII["large"])
    classes, ways = cell_targets(Scene("navy", "left", (item,)))
    middle, corner = (CELLS // 2) * CELLS + 1, 0
    assert classes[middle].tolist() == [4, 1, 5, 4, 2, 1]
    assert classes[corner].tolist() == [4, 0, -100, -100, -100, -100]
    assert np.abs(ways[middle]).max() < 0.5 and not ways[corner].any()
