"""Texts go through the text encoder together, as many as its program takes, and each comes out as if alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from calotype import backends
from calotype.backends import BackendOptions, Program
from calotype.bundle import Bundle
from calotype.text import TextEncoder
from calotype.tokenizer import Tokenizer
from tests.bundles import bundle
from tests.engine.tiny import PROMPT, pipeline_of

Wanted = Sequence[tuple[str, int]]


@dataclass
class Counted:
    """A program that writes down the token ids of its runs."""

    program: Program
    runs: list[NDArray[Any]] = field(default_factory=list)

    @property
    def spec(self) -> Any:
        return self.program.spec

    def launch(self, inputs: dict[str, NDArray[Any]]) -> None:
        self.runs.append(inputs["input_ids"])
        self.program.launch(inputs)

    def keep(self, name: str, *index: int) -> Any:
        return self.program.keep(name, *index)


def encoder(name: str) -> tuple[TextEncoder, Counted]:
    opened = Bundle.open(bundle(name))
    (program,) = backends.load(
        "onnxruntime", opened.root, [opened.program("text_encoder")], BackendOptions(threads=1)
    )
    counted = Counted(program)
    length = opened.program("text_encoder").input("input_ids").shape[1]
    tokenizer = Tokenizer.load(opened.root / "tokenizer.json", opened.root / "tokenizer_config.json", length)
    return TextEncoder(tokenizer, cast(Program, counted)), counted


@pytest.mark.parametrize(
    ("name", "wanted", "runs"),
    [
        ("plain", [(PROMPT, 0), ("", 0)], 1),
        ("plain", [(PROMPT, 0)], 1),
        ("plain", [(PROMPT, 0), ("a", 0), ("", 0)], 2),
        ("plain", [(PROMPT, 1), (PROMPT, 0), (PROMPT, 1)], 1),
        ("plain", [(PROMPT, 0), ("a", 0), (PROMPT, 0), ("", 0), ("a", 1), ("b", 0)], 2),
        ("unguided", [(PROMPT, 0), ("a", 0)], 2),
        ("plain", [], 0),
    ],
)
def test_texts_share_runs_and_are_encoded_as_if_alone(name: str, wanted: Wanted, runs: int) -> None:
    text, counted = encoder(name)
    found = text.encode(wanted)

    assert len(counted.runs) == runs
    for each, (words, skipped) in zip(found, wanted, strict=True):
        (alone,) = encoder(name)[0].encode([(words, skipped)])
        np.testing.assert_allclose(each, alone, rtol=0, atol=2e-6)


def test_clip_skip_is_of_the_prompt_alone() -> None:
    given = pipeline_of("plain").encode_prompt(PROMPT, negative_prompt="a", clip_skip=1)
    for words, skipped, half in ((PROMPT, 1, given.prompt), ("a", 0, given.negative)):
        (alone,) = encoder("plain")[0].encode([(words, skipped)])
        assert half is not None
        np.testing.assert_allclose(half[0], alone, rtol=0, atol=2e-6)
