"""The small files of a bundle, as the runtime will read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calotype_export import build
from calotype_export.build import BuildOptions
from tests.export.spoiling import change


@pytest.mark.parametrize(("stated", "length"), [(None, 77), (77, 77), (20, 20)])
def test_prompts_are_as_long_as_the_tokenizer_says_and_the_text_encoder_can_take(
    copy: Path, tmp_path: Path, stated: int | None, length: int
) -> None:
    change(copy / "tokenizer" / "tokenizer_config.json", model_max_length=stated)
    options = BuildOptions(copy, tmp_path / "bundle")
    sources = build.opened(options)
    build.write_files(sources, {}, tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["model_max_length"] == length
    assert build.decide(sources, options).max_length == length
    assert sources.checkpoint.tokenizer().model_max_length == length  # with which eager diffusers pads
