"""From text to the token ids of a CLIP text encoder, through the `tokenizers` library.

`tokenizer.json` is the checkpoint's own tokenizer with the template that adds start and end;
`tokenizer_config.json` holds {"bos_token_id", "eos_token_id", "pad_token_id", "model_max_length"}.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from calotype.errors import BundleError, RequestError

_NUMBERS = ("bos_token_id", "eos_token_id", "pad_token_id", "model_max_length")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text: `ids` (T,) with start, end and padding; `count` of them are the text's own.

    `truncated` is the part of the text that had no room, "" where all of it had.
    """

    ids: NDArray[np.int64]
    count: int
    truncated: str


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Gives the ids that transformers' `CLIPTokenizer` gives with `padding="max_length", truncation=True`."""

    backend: tokenizers.Tokenizer
    eos_token_id: int
    pad_token_id: int
    max_length: int

    @classmethod
    def load(cls, tokenizer_json: Path, config_json: Path, length: int | None = None) -> Tokenizer:
        """Read a bundle's tokenizer; BundleError when a file is missing, damaged or contradicts the other.

        `length` is the number of tokens that the program behind it takes, and what the files must say too.
        """
        config = _config(config_json)
        if length is not None and config["model_max_length"] != length:
            raise BundleError(
                f"{config_json}: model_max_length: expected {length}, the tokens that the bundle's program takes, "
                f"found {config['model_max_length']}",
                "export the bundle again",
            )
        try:
            backend = tokenizers.Tokenizer.from_str(tokenizer_json.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises nothing more specific
            raise BundleError(
                f"{tokenizer_json}: this is no tokenizer: {error}", "export the bundle again"
            ) from error
        backend.no_truncation()
        backend.no_padding()
        expected, found = [config["bos_token_id"], config["eos_token_id"]], backend.encode("").ids
        if found != expected:
            raise BundleError(
                f"{tokenizer_json}: expected start and end for an empty text, {expected}, found {found}",
                "export the bundle again",
            )
        return cls(backend, config["eos_token_id"], config["pad_token_id"], config["model_max_length"])

    def encode(self, text: str) -> Tokens:
        """The ids of `text`; what has no room before the end token is cut off. RequestError for no text."""
        encoding = self._encoding(text)
        ids, room = list(encoding.ids), self.max_length - 1
        truncated = ""
        if len(ids) > self.max_length:
            truncated = text[encoding.offsets[room][0] :]
            ids = [*ids[:room], self.eos_token_id]
        padded = ids + [self.pad_token_id] * (self.max_length - len(ids))
        return Tokens(np.array(padded, np.int64), len(ids) - 2, truncated)

    def pieces(self, text: str) -> list[tuple[str, int]]:
        """Every token of `text`, start and end included and nothing cut off, as (readable piece, id).

        A piece that ends a word ends in `</w>`; a part of a character is shown as the vocabulary has it.
        """
        encoding = self._encoding(text)
        shown = [self.backend.decoder.decode([token]) for token in encoding.tokens]
        readable = [
            raw if "\ufffd" in piece else piece for piece, raw in zip(shown, encoding.tokens, strict=True)
        ]
        return list(zip(readable, encoding.ids, strict=True))

    def _encoding(self, text: str) -> Any:
        try:
            return self.backend.encode(text)
        except (TypeError, ValueError) as error:
            found = repr(text)[:80]
            raise RequestError(
                f"prompt: expected text, found {found}: {error}", "pass a str of valid Unicode"
            ) from error


def _config(path: Path) -> dict[str, int]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path}: the tokenizer's settings could not be read: {error}", "export again"
        ) from error
    numbers = {name: config.get(name) if isinstance(config, dict) else None for name in _NUMBERS}
    wrong = {
        name: value
        for name, value in numbers.items()
        if not isinstance(value, int) or isinstance(value, bool)
    }
    if wrong:
        raise BundleError(
            f"{path}: expected whole numbers {', '.join(_NUMBERS)}; found {wrong}", "export again"
        )
    return config
