"""A CLIP byte-pair vocabulary of any size, made without a download: a size in, tokenizer files out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from calotype_export.model_configs import TOKENS

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = """
a the of in on and with at by an to from is for photo painting picture drawing image art portrait style red green
blue yellow purple orange pink black white brown gray gold silver dark bright light colorful cat dog horse bird fish
car house tree flower mountain river lake sea ocean beach forest city street castle bridge tower boat ship train
plane robot astronaut knight wizard dragon king queen man woman child person face eyes hair hand standing sitting
walking running flying riding wearing holding looking old young big small tiny giant beautiful cute detailed highly
realistic photorealistic digital oil watercolor pencil sketch cartoon anime concept illustration render cinematic
lighting sunset sunrise night day morning sky cloud clouds rain snow storm sun moon star stars space planet galaxy
square circle triangle left right above below behind between under over front sharp focus blurry low high quality
resolution best worst masterpiece trending studio background foreground flooble teapot table chair cup book apple
    """


def byte_symbols() -> list[str]:
    """The 256 characters that stand for bytes, in the order of their ids (GPT-2's `bytes_to_unicode`)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def _merges() -> Iterator[tuple[str, str]]:
    """Merge rules without end for our purpose: the words, then every run of two, three and four letters."""
    for word in _WORDS.split():
        for end in range(1, len(word)):
            last = "</w>" if end == len(word) - 1 else ""
            yield word[:end], word[end] + last
    letters = "etaoinshrdlcumwfgypbvkjxqz"
    for length in (1, 2, 3):
        for start in itertools.product(letters, repeat=length):
            for letter in letters:
                yield "".join(start), letter
                yield "".join(start), letter + "</w>"


def build(size: int) -> tuple[dict[str, int], list[str]]:
    """Ids of `size` tokens and the merge rules behind them, in the layout of CLIP's own vocabulary."""
    symbols = byte_symbols()
    tokens = symbols + [symbol + "</w>" for symbol in symbols]
    known = set(tokens)
    rules: list[str] = []
    for left, right in _merges():
        if len(tokens) == size - 2:
            break
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
            rules.append(f"{left} {right}")
    return {token: index for index, token in enumerate([*tokens, START, END])}, rules


def write(folder: Path, size: int, pad_token: str) -> None:
    """Write `vocab.json`, `merges.txt` and the two config files of a `CLIPTokenizer` into `folder`."""
    ids, rules = build(size)
    folder.mkdir(parents=True)
    files = {
        "vocab.json": json.dumps(ids, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *rules, ""]),
        "special_tokens_map.json": json.dumps(
            {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad_token}, indent=2),
        "tokenizer_config.json": json.dumps(
            {"tokenizer_class": "CLIPTokenizer", "bos_token": START, "eos_token": END, "unk_token": END,
             "pad_token": pad_token, "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
             "model_max_length": TOKENS}, indent=2),
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
