"""The algebra in which the solvers are written: a tensor is the vector of its weights in what a row can see.

A solver's formulas are evaluated on these vectors instead of on pictures, as they stand in the papers, and the
row of the table is what falls out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_MEMORIES = 7
_BASIS: NDArray[np.float64] = np.eye(_MEMORIES + 3)
_BASIS.flags.writeable = False

LATENTS: Vector = _BASIS[0]
MEMORY: tuple[Vector, ...] = tuple(_BASIS[1:-2])
PREDICTION: Vector = _BASIS[-2]
NOISE: Vector = _BASIS[-1]


def recall(memory: Sequence[Vector]) -> tuple[Vector, ...]:
    """What a row has handed on, as the next row sees it."""
    return MEMORY[: len(memory)]


def combine(weights: Sequence[float], vectors: Sequence[Vector]) -> Vector:
    """The weighted sum of vectors; of the longer sequence the rest is left out."""
    return sum((w * v for w, v in zip(weights, vectors, strict=False)), np.zeros_like(LATENTS))
