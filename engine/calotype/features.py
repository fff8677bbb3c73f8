"""Sinusoids of numbers that must not be rounded: the timestep, and LCM's guidance scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.manifest import TimeEmbedding

Array = NDArray[Any]


def time_features(timestep: float, embedding: TimeEmbedding) -> Array:
    """The sinusoid (F,) of a timestep (diffusers' `get_timestep_embedding`; Vaswani et al. 2017, section 3.5).

    Products are rounded to float32 where torch rounds them, since the sine of 999 radians keeps the difference.
    """
    half = embedding.width // 2
    exponent = np.float32(-math.log(10000)) * np.arange(half, dtype=np.float32)
    exponent = exponent / np.float32(half - embedding.freq_shift)
    angles = np.float32(timestep) * _exp(exponent)
    pair = (_cos(angles), _sin(angles)) if embedding.flip_sin_to_cos else (_sin(angles), _cos(angles))
    return np.pad(np.concatenate(pair), (0, embedding.width % 2))


def guidance_features(scale: float, width: int) -> Array:
    """LCM's embedding (width,) of the guidance scale (diffusers' `get_guidance_scale_embedding`)."""
    half = width // 2
    exponent = np.arange(half, dtype=np.float32) * np.float32(-math.log(10000.0) / (half - 1))
    angles = np.float32(scale - 1.0) * np.float32(1000.0) * _exp(exponent)
    return np.pad(np.concatenate([_sin(angles), _cos(angles)]), (0, width % 2))


def _exp(values: Array) -> Array:
    return np.exp(values.astype(np.float64)).astype(np.float32)


def _sin(angles: Array) -> Array:
    return np.sin(angles.astype(np.float64)).astype(np.float32)


def _cos(angles: Array) -> Array:
    return np.cos(angles.astype(np.float64)).astype(np.float32)
