"""What passes a gate and what the message of a miss says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calotype.errors import ParityError
from calotype_export import gates
from calotype_export.gates import Distance


def test_the_distance_of_several_arrays_is_that_of_the_worst() -> None:
    one = np.ones(4, np.float32)
    found = gates.distance([one, one * 1.5], [one, one])
    assert found.relative_l2 == pytest.approx(0.5)
    assert found.max_abs == pytest.approx(0.5)


def test_arrays_in_opposite_directions_have_the_cosine_minus_one() -> None:
    one = np.ones(4, np.float32)
    assert gates.distance([-one, one], [one, one]).cosine == pytest.approx(-1)


def test_a_distance_from_nothing_is_absolute() -> None:
    assert gates.distance([np.full(4, 0.5, np.float32)], [np.zeros(4, np.float32)]).relative_l2 == 1.0


def test_a_miss_names_the_program_the_bound_and_by_how_much() -> None:
    gate = gates.gate("unet_step (batch 2)", "unet_step", None)
    with pytest.raises(ParityError) as raised:
        gate.check(Distance(5e-4, 1.0, 0.1), "onnxruntime")
    for part in ("unet_step (batch 2)", "onnxruntime", "5.00e-05", "5.00e-04", "10 times"):
        assert part in raised.value.message


def test_low_precision_may_be_one_and_a_half_times_as_far_as_eager_is() -> None:
    gate = gates.gate("vae_decoder (batch 1)", "vae_decoder", Distance(0.02, 1.0, 0.1))
    gate.check(Distance(0.029, 1.0, 0.1), "openvino")
    with pytest.raises(ParityError, match=r"1\.5 times eager's own distance"):
        gate.check(Distance(0.031, 1.0, 0.1), "openvino")


def test_numbers_that_are_not_finite_never_pass() -> None:
    broken = np.array([1.0, np.nan], np.float32)
    found = gates.distance([broken], [np.ones(2, np.float32)])
    assert math.isnan(found.relative_l2)
    with pytest.raises(ParityError, match=r"not finite in onnxruntime"):
        gates.gate("vae_decoder (batch 1)", "vae_decoder", None).check(found, "onnxruntime")


def test_an_eager_overflow_is_the_checkpoints_own_and_says_so() -> None:
    with pytest.raises(ParityError, match=r"not finite in eager diffusers") as raised:
        gates.gate("vae_decoder (batch 1)", "vae_decoder", Distance(math.nan, math.nan, math.nan))
    assert "--precision" in raised.value.hint


def test_a_black_picture_is_refused() -> None:
    with pytest.raises(ParityError, match=r"vae_decoder gives a black picture"):
        gates.check_picture("vae_decoder", np.full((1, 8, 8, 3), -0.1, np.float32))


def test_pixels_within_counts_values_no_more_than_one_step_apart() -> None:
    picture = np.zeros(4, np.float32)
    found = (picture + np.arange(4) / 255).astype(np.float32)
    assert gates.pixels_within(found, picture) == 0.5
