"""The small files of a bundle, as the runtime will read them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from calotype_export import build, bundle_files
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


def test_thresholds_of_a_safety_checker_are_its_own(sd15_folder: Path, tmp_path: Path) -> None:
    sources = build.opened(BuildOptions(sd15_folder, tmp_path / "bundle"))
    checker = SimpleNamespace(
        special_care_embeds_weights=torch.tensor([0.125, 0.25]),
        concept_embeds_weights=torch.tensor([0.5, 0.75, 1.0], dtype=torch.bfloat16),
    )
    bundle_files.write_safety_checker(sources, checker, tmp_path)
    found = json.loads((tmp_path / "safety_checker.json").read_text("utf-8"))
    assert (found["special_thresholds"], found["concept_thresholds"]) == ([0.125, 0.25], [0.5, 0.75, 1.0])


def test_the_ids_that_begin_end_and_fill_a_prompt_are_written_though_all_three_differ(
    depth_folder: Path, tmp_path: Path
) -> None:
    tokenizer = build.opened(BuildOptions(depth_folder, tmp_path)).checkpoint.tokenizer()
    bundle_files.write_tokenizer(tokenizer, 77, tmp_path, "tokenizer")
    found = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    ids = (found["bos_token_id"], found["eos_token_id"], found["pad_token_id"])
    assert ids == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(set(ids)) == 3


def test_a_stored_tokenizer_neither_cuts_nor_fills(sd15_folder: Path, tmp_path: Path) -> None:
    tokenizer = build.opened(BuildOptions(sd15_folder, tmp_path)).checkpoint.tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    bundle_files.write_tokenizer(tokenizer, 77, tmp_path, "tokenizer")
    found = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert (found["truncation"], found["padding"]) == (None, None)
