"""What is decided of a bundle before a weight is loaded, from configs and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calotype.manifest import Manifest, TimeEmbedding
from calotype_export import build
from calotype_export.build import BuildOptions
from tests.export.spoiling import change


def decided(checkpoint: Path, **options: Any) -> Manifest:
    asked = BuildOptions(checkpoint, checkpoint.with_name("bundle"), **options)
    return build.decide(build.opened(asked), asked)


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 1)])
def test_the_time_embedding_is_the_unets_own(copy: Path, flip: bool, shift: int) -> None:
    change(copy / "unet/config.json", flip_sin_to_cos=flip, freq_shift=shift)
    width = decided(copy).time_embedding.width
    assert decided(copy).time_embedding == TimeEmbedding(width, flip, float(shift))


def test_a_unet_that_is_told_of_guidance_gets_none_in_its_step(copy: Path) -> None:
    assert decided(copy).guided
    assert not decided(copy, unguided=True).guided
    change(copy / "unet/config.json", time_cond_proj_dim=32)
    found = decided(copy)
    assert (found.guided, found.timestep_cond) == (False, 32)


def test_batches_are_in_order_and_none_comes_twice(sd15_folder: Path) -> None:
    assert decided(sd15_folder, batches=(4, 1, 4)).batches == (1, 4)


def test_a_scheduler_that_was_asked_for_is_in_the_source_and_no_other(sd15_folder: Path) -> None:
    assert decided(sd15_folder, scheduler="euler").source["scheduler"] == "euler"
    assert "scheduler" not in decided(sd15_folder).source


def test_height_comes_before_width(copy: Path) -> None:
    found = decided(copy, size=(64, 128))
    assert (found.height, found.width) == (64, 128)
    change(copy / "unet/config.json", sample_size=[16, 24])
    found = decided(copy)
    assert (found.height, found.width) == (128, 192)
