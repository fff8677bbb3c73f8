"""The sinusoids that a UNet is told its timestep by, against their definitions."""

from __future__ import annotations

from math import cos, sin

import numpy as np
import pytest

from calotype.features import guidance_features, time_features
from calotype.manifest import TimeEmbedding

FREQUENCIES = {0.0: (1.0, 1e-2), 1.0: (1.0, 1e-4)}  # of a width of 4, by freq_shift


@pytest.mark.parametrize("freq_shift", FREQUENCIES)
@pytest.mark.parametrize("flip_sin_to_cos", [False, True])
def test_a_timesteps_features_are_sines_and_cosines(flip_sin_to_cos: bool, freq_shift: float) -> None:
    angles = [10.0 * frequency for frequency in FREQUENCIES[freq_shift]]
    sines, cosines = [sin(angle) for angle in angles], [cos(angle) for angle in angles]

    found = time_features(10.0, TimeEmbedding(4, flip_sin_to_cos, freq_shift))
    np.testing.assert_allclose(
        found, [*cosines, *sines] if flip_sin_to_cos else [*sines, *cosines], rtol=1e-6
    )


def test_a_guidance_scales_features_are_of_a_thousand_times_what_it_is_above_one() -> None:
    found = guidance_features(1.01, 4)

    np.testing.assert_allclose(found, [sin(10), sin(1e-3), cos(10), cos(1e-3)], rtol=1e-4)


def test_an_odd_width_ends_in_zero() -> None:
    assert time_features(10.0, TimeEmbedding(5, True, 0.0))[-1] == 0
    assert guidance_features(1.01, 5).shape == (5,)
