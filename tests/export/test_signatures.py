"""Which inputs a program has, and what examples of them are."""

from __future__ import annotations

import numpy as np
import pytest

from calotype_export import signatures
from tests.export import modules

ALWAYS = ["state", "read", "write", "time_features", "noise", "embeddings"]
GUIDED = ["guidance", "guidance_rescale"]
BLEND = ["keep", "original", "original_noise", "blend"]


@pytest.mark.parametrize(
    ("conditioning", "guided", "timestep_cond", "expected"),
    [
        ((), True, 0, ALWAYS + GUIDED + BLEND),
        ((), False, 0, ALWAYS + BLEND),
        ((), False, 8, [*ALWAYS, "timestep_cond", *BLEND]),
        (("mask", "masked_latents"), True, 0, [*ALWAYS, *GUIDED, "mask", "masked_latents"]),
        (("depth",), True, 0, [*ALWAYS, *GUIDED, "depth"]),
    ],
)
def test_the_inputs_of_a_step_follow_from_the_manifest(
    conditioning: tuple[str, ...], guided: bool, timestep_cond: int, expected: list[str]
) -> None:
    manifest = modules.manifest(conditioning, guided, timestep_cond)
    specs = signatures.inputs("unet_step", 2, manifest, modules.SIZES)
    assert [spec.name for spec in specs] == expected


@pytest.mark.parametrize(("guided", "rows"), [(True, 4), (False, 2)])
def test_a_guided_step_takes_two_rows_of_embeddings_for_each_picture(guided: bool, rows: int) -> None:
    specs = signatures.inputs("unet_step", 2, modules.manifest(guided=guided), modules.SIZES)
    shapes = {spec.name: spec.shape for spec in specs}
    assert shapes["embeddings"] == (rows, 77, modules.WIDTH)


def test_an_example_is_the_same_for_the_same_seed_and_fits_its_specs() -> None:
    specs = signatures.inputs("unet_step", 2, modules.manifest(), modules.SIZES)
    one, other = signatures.example(specs, 0), signatures.example(specs, 0)
    for spec in specs:
        np.testing.assert_array_equal(one[spec.name], other[spec.name])
        assert (one[spec.name].shape, str(one[spec.name].dtype)) == (spec.shape, spec.dtype)


def test_an_odd_seed_writes_the_prediction_alone() -> None:
    specs = signatures.inputs("unet_step", 1, modules.manifest(), modules.SIZES)
    write = signatures.example(specs, 1)["write"]
    np.testing.assert_array_equal(np.flatnonzero(write[0, 0]), [5])
