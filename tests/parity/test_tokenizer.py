"""Token ids against transformers' own CLIP tokenizer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from calotype.tokenizer import Tokenizer
from tests.engine.clip import END, START, vocabulary

transformers = pytest.importorskip("transformers")

TEXTS = [
    "", " ", "\n\t ", "a", "A Painting of a FLOOBLE!", "cat's cats' can't we'll I'D they've", "3.14159 and 42",
    "café cafe\u0301 naïve Straße İstanbul ǅ", "猫の絵 картина كلب ภาพ हिन्दी", "🦕 👩‍👩‍👧‍👦 🇪🇺 ❤️ 👍🏽",
    "zero\u200bwidth\u200djoin\ufeff", "con\x00trol\x01\x1f\x7f\x85chars",
    "tab\tnew\nline\r\n  many   spaces\u00a0\u3000wide", "(masterpiece:1.2), [x|y], {a}",
    "<|endoftext|> in the middle", "<|startoftext|>", "<|EndOfText|> <|endoftext", "ﬁ ﬂ ½ ² Ⅷ Ａ",
    "\u202eright to left\u202c", "a\u0301\u0302\u0303" * 20, "ABCdef_GHI-jkl/mno\\pqr", "#@$%^&*()~`|<>?",
]  # fmt: skip
LONG = ["a " * 200, "painting" * 300, "🦕" * 90, "x" * 100_000, "a\n\n the CAT, " * 40]


@pytest.fixture(scope="module", params=[END, "!"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """Ours, of the files that an export writes, and the checkpoint's own, of its vocabulary."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    ids, merges = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), "utf-8")
    settings = {"pad_token": request.param, "bos_token": START, "eos_token": END, "unk_token": END}
    kind = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **kind}), "utf-8")
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    bundle = folder / "bundle"
    theirs.save_pretrained(bundle)
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "model_max_length")
    config = {name: int(getattr(theirs, name)) for name in names}
    (bundle / "numbers.json").write_text(json.dumps(config), "utf-8")
    return Tokenizer.load(bundle / "tokenizer.json", bundle / "numbers.json"), theirs


def reference(theirs: Any, text: str) -> list[int]:
    return theirs(text, padding="max_length", max_length=77, truncation=True).input_ids


@pytest.mark.parametrize("text", TEXTS + LONG, ids=range(len(TEXTS + LONG)))
def test_ids_are_those_of_the_checkpoints_tokenizer(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, theirs = pair
    assert ours.encode(text).ids.tolist() == reference(theirs, text)


def test_ids_of_random_characters_are_the_same(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    chance = random.Random(0)
    ranges = [
        (0, 0x80),
        (0x80, 0x250),
        (0x300, 0x370),
        (0x2000, 0x2100),
        (0x3000, 0x3100),
        (0x1F300, 0x1F700),
    ]
    for _ in range(300):
        text = "".join(chr(chance.randrange(*chance.choice(ranges))) for _ in range(chance.randrange(60)))
        assert ours.encode(text).ids.tolist() == reference(theirs, text), repr(text)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_what_falls_off_has_the_tokens_that_diffusers_reports(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, theirs = pair
    removed = theirs(text).input_ids[76:-1]
    fallen = theirs(ours.encode(text).truncated).input_ids[1:-1]
    assert fallen[-len(removed) :] == removed
    assert len(fallen) - len(removed) in range(4)  # a character that is cut comes back whole


def test_diffusers_sees_the_same_words_fall_off(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    text = "a " * 74 + "cat, the painting of a cat"
    removed = theirs.batch_decode(theirs(text, return_tensors="np").input_ids[:, 76:-1])
    assert ours.encode(text).truncated == removed[0]
