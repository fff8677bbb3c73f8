"""Masks for inpainting. In: the coverage of a picture's items; out: what to paint anew, (H, W) bool."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sample_mask(items: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a mask: around one item (half of them), a rectangle, an ellipse, or the whole picture."""
    side = items.shape[-1]
    kind = generator.random()
    if kind < 0.5:
        margin = generator.uniform(0.02, 0.09) * side
        return box_around(items[generator.integers(len(items))], round(margin))
    if kind < 0.9:
        return _patch(side, generator, rounded=kind >= 0.75)
    return np.ones((side, side), dtype=np.bool_)


def box_around(item: NDArray[np.uint8], margin: int) -> NDArray[np.bool_]:
    """The item's bounding box, grown by `margin` pixels on every side."""
    rows, columns = np.nonzero(item.max(axis=1))[0], np.nonzero(item.max(axis=0))[0]
    mask = np.zeros(item.shape, dtype=np.bool_)
    mask[
        max(0, rows[0] - margin) : rows[-1] + margin + 1,
        max(0, columns[0] - margin) : columns[-1] + margin + 1,
    ] = True
    return mask


def _patch(side: int, generator: np.random.Generator, *, rounded: bool) -> NDArray[np.bool_]:
    """A rectangle, or the ellipse within it, that covers 2 to 50 % of the picture."""
    centre, half = generator.uniform(0.15, 0.85, 2), generator.uniform(0.08, 0.36, 2)
    grid = (np.arange(side) + 0.5) / side
    down = np.abs(grid[:, None] - centre[0]) / half[0]
    across = np.abs(grid[None, :] - centre[1]) / half[1]
    distance = np.sqrt(down**2 + across**2) if rounded else np.maximum(down, across)
    return distance <= 1
