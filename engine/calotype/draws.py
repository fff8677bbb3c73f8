"""A request's noise: from its seeds to arrays, in the order in which diffusers would draw them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype import noise

Array = NDArray[Any]


class Draws:
    """One generator for a whole request (an int seed), or one a picture (a list of seeds).

    As in diffusers' `randn_tensor`, one generator draws all rows of an array at once, and a list of them
    draws a row each, so that a picture of a listed seed does not depend on its neighbours.
    """

    def __init__(self, seed: int | Sequence[int] | None, source: str) -> None:
        chosen = secrets.randbits(32) if seed is None else seed
        self.listed = isinstance(chosen, Sequence)
        listed = chosen if isinstance(chosen, Sequence) else [chosen]
        self.seeds = tuple(int(each) for each in listed)  # of numpy's integers too
        self._generators = [noise.generator(each, source) for each in self.seeds]

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Standard normal float32 numbers of `shape`; with listed seeds, row i comes from generator i."""
        if not self.listed:
            return self._generators[0].normal(shape)
        rows = [generator.normal((1, *shape[1:])) for generator in self._generators[: shape[0]]]
        return np.concatenate(rows)
