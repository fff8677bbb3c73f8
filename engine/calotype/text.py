"""From prompts to embeddings: the tokenizer and the `text_encoder` program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    def encode(self, texts: Sequence[str], clip_skip: int | None = None) -> list[Row]:
        """Embeddings (T, D) of each text, where the program runs; equal texts are encoded once.

        `clip_skip` n takes the hidden state n layers before the last, after the final layer norm
        (diffusers' `encode_prompt`). RequestError when there are not so many layers.
        """
        layers = self._program.spec.output("hidden_states").shape[1]
        skipped = clip_skip or 0
        if skipped >= layers:
            raise RequestError(
                f"`clip_skip`: expected at most {layers - 1}, the layers of this text encoder, found {clip_skip}"
            )
        encoded: dict[str, Row] = {}
        for text in texts:
            if text not in encoded:
                ids = self._tokenizer.encode(text).ids[None]  # (1, T)
                self._program.launch({"input_ids": ids})  # hidden_states (1, L + 1, T, D)
                encoded[text] = self._program.keep("hidden_states", 0, layers - 1 - skipped)
        return [encoded[text] for text in texts]
