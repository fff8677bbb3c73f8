"""From prompts to embeddings: the tokenizer and the `text_encoder` program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.backends import Program, Row
from calotype.errors import RequestError
from calotype.reading import finite
from calotype.tokenizer import Tokenizer, Tokens

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The UNet's cross-attention inputs: `prompt` and `negative`, each (n, T, D); `negative` None unguided."""

    prompt: Array
    negative: Array | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """`Embeddings` where they lie, which may be a GPU: of each picture a row (T, D)."""

    prompt: Sequence[Row]
    negative: Sequence[Row] | None = None

    def read(self) -> Embeddings:
        """On the host. BackendError when they are not finite."""
        what = "text_encoder: the embeddings hold"
        prompt = finite(self.prompt, what)
        return Embeddings(prompt, None if self.negative is None else finite(self.negative, what))


class TextEncoder:
    """Prompts in, the UNet's cross-attention embeddings out."""

    def __init__(self, tokenizer: Tokenizer, program: Program) -> None:
        self._tokenizer = tokenizer
        self._program = program

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """The token ids of each text, padded and cut to the model's length."""
        return [self._tokenizer.encode(text) for text in texts]

    def encode(self, wanted: Sequence[tuple[str, int]]) -> list[Row]:
        """Embeddings (T, D) of each text and its `clip_skip`, where the program runs; equal texts are encoded once.

        A `clip_skip` of n takes the hidden state n layers before the last, after the final layer norm
        (diffusers' `encode_prompt`). RequestError when there are not so many layers.
        """
        rows, layers = self._program.spec.output("hidden_states").shape[:2]  # R texts a run, L + 1
        for _, skipped in wanted:
            if skipped >= layers:
                raise RequestError(
                    f"`clip_skip`: expected at most {layers - 1}, the layers of this text encoder, found {skipped}"
                )
        texts = [*dict.fromkeys(text for text, _ in wanted)]
        kept: dict[tuple[str, int], Row] = {}
        for first in range(0, len(texts), rows):
            together = texts[first : first + rows]
            ids = [self._tokenizer.encode(text).ids for text in together]
            ids += ids[-1:] * (rows - len(ids))
            self._program.launch({"input_ids": np.stack(ids)})  # (R, T); hidden_states (R, L + 1, T, D)
            for text, skipped in dict.fromkeys(wanted):
                if text in together:
                    place = together.index(text), layers - 1 - skipped
                    kept[text, skipped] = self._program.keep("hidden_states", *place)
        return [kept[each] for each in wanted]
