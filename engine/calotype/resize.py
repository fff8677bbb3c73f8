"""Stacks of planes in, stacks of another size out: torch's `F.interpolate(align_corners=False)` in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Neighbours = list[tuple[Array, Array]]  # of each target index: a source index and its weight, both (target,)

_SHARPNESS = -0.75  # torch's `a` of the cubic convolution kernel (Keys 1981, equation 4)


def resize_bicubic(planes: Array, height: int, width: int) -> Array:
    """(..., h, w) to (..., height, width) float32, as `mode="bicubic"`: no antialiasing, edges clamped."""
    return _resized(planes, _bicubic(planes.shape[-2], height), _bicubic(planes.shape[-1], width))


def resize_bilinear(planes: Array, height: int, width: int) -> Array:
    """(..., h, w) to (..., height, width) float32, as `mode="bilinear"` without antialiasing."""
    return _resized(planes, _bilinear(planes.shape[-2], height), _bilinear(planes.shape[-1], width))


def resize_nearest(planes: Array, height: int, width: int) -> Array:
    """(..., h, w) to (..., height, width) of the same dtype, as `mode="nearest"`, torch's default."""
    rows = _nearest(planes.shape[-2], height)
    columns = _nearest(planes.shape[-1], width)
    return planes[..., rows[:, None], columns]


def _resized(planes: Array, rows: Neighbours, columns: Neighbours) -> Array:
    """Each target row the sum of its neighbours, then each column.

    Not as matrix products: numpy's library for these keeps its threads spinning for 30 ms behind one, on the cores that
    the next program wants.
    """
    exact = planes.astype(np.float64)
    tall = np.sum([exact[..., index, :] * weight[:, None] for index, weight in rows], axis=0)
    return np.sum([tall[..., index] * weight for index, weight in columns], axis=0).astype(np.float32)


def _nearest(size: int, target: int) -> Array:
    """The source index of each target index, (target,)."""
    scale = np.float32(size) / np.float32(target)
    return np.minimum((np.arange(target, dtype=np.float32) * scale).astype(np.int64), size - 1)


def _bilinear(size: int, target: int) -> Neighbours:
    """The two neighbours of each target index."""
    position = np.maximum(_positions(size, target), 0.0)
    first = np.floor(position).astype(np.int64)
    share = position - first
    return _clamped(size, first, {0: 1.0 - share, 1: share})


def _bicubic(size: int, target: int) -> Neighbours:
    """The four neighbours of each target index."""
    position = _positions(size, target)
    first = np.floor(position).astype(np.int64)
    share = position - first
    near = {0: _inner(share), 1: _inner(1.0 - share)}
    return _clamped(size, first, near | {-1: _outer(1.0 + share), 2: _outer(2.0 - share)})


def _positions(size: int, target: int) -> Array:
    """Where the centre of each target pixel lies among the centres of the source's, (target,).

    As torch rounds it: the scale to float32, and the fused multiply-add of it to float32.
    """
    scale = np.float64(np.float32(size) / np.float32(target))
    return ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32).astype(np.float64)


def _inner(distance: Array) -> Array:
    return ((_SHARPNESS + 2.0) * distance - (_SHARPNESS + 3.0)) * distance * distance + 1.0


def _outer(distance: Array) -> Array:
    return (((distance - 5.0) * distance + 8.0) * distance - 4.0) * _SHARPNESS


def _clamped(size: int, first: Array, shares: dict[int, Array]) -> Neighbours:
    """By offset from `first`; those past an edge count for the edge."""
    return [(np.clip(first + offset, 0, size - 1), share) for offset, share in shares.items()]
