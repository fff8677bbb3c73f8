"""A tiny CLIP tokenizer for the tests, built with the `tokenizers` library alone."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

START, END = "<|startoftext|>", "<|endoftext|>"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORDS = ("a", "painting", "of", "flooble", "cat", "caf", "the", "ing", "ooo")


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Every byte, with and without the end of a word, the words above letter by letter, start and end."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, merges = [*symbols, *(symbol + "</w>" for symbol in symbols)], list[tuple[str, str]]()
    for word in WORDS:
        for end in range(1, len(word)):
            pair = (word[:end], word[end] + ("</w>" if end == len(word) - 1 else ""))
            if "".join(pair) not in tokens:
                tokens.append("".join(pair))
                merges.append(pair)
    return {token: index for index, token in enumerate([*tokens, START, END])}, merges


def tokenizer() -> Tokenizer:
    """As transformers' `CLIPTokenizer` builds it from a vocabulary and merges."""
    ids, merges = vocabulary()
    made = Tokenizer(BPE(vocab=ids, merges=merges, end_of_word_suffix="</w>", unk_token=END))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing((END, ids[END]), (START, ids[START]), False, False)
    made.add_special_tokens([AddedToken(START, normalized=True), AddedToken(END, normalized=True)])
    return made


def write(folder: Path, max_length: int = 77, pad: str = END) -> tuple[Path, Path]:
    """`tokenizer.json` and `tokenizer_config.json` as they lie in a bundle; gives their paths."""
    ids, _ = vocabulary()
    paths = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer().save(str(paths[0]))
    config = {"bos_token_id": ids[START], "eos_token_id": ids[END], "pad_token_id": ids[pad]}
    paths[1].write_text(json.dumps({**config, "model_max_length": max_length}), "utf-8")
    return paths
