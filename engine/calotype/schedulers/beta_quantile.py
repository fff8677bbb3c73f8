"""The quantile function of the Beta(0.6, 0.6) distribution, which places the sigmas of beta sampling."""

from __future__ import annotations

import math

import numpy as np

from calotype.schedule import Table

_SHAPE = 0.6  # both parameters of the distribution
_COMPLETE = math.gamma(_SHAPE) ** 2 / math.gamma(2 * _SHAPE)  # the complete beta function
_TERMS = 60  # of a power series in x <= 1/2: the last is below 2^-60


def beta_quantile(probability: Table) -> Table:
    """x with I_x(0.6, 0.6) = probability, to about 1e-14, for probabilities in [0, 1].

    The distribution is symmetric, so the smaller tail is solved for and mirrored.
    """
    tail = np.minimum(probability, 1 - probability)
    x = np.minimum((tail * _SHAPE * _COMPLETE) ** (1 / _SHAPE), 0.5)  # the series' first term, inverted
    for _ in range(6):  # Newton's method; the distribution is concave there, so it does not leave [0, 1/2]
        inverse_density = _COMPLETE * (x * (1 - x)) ** (1 - _SHAPE)
        x = x - (_incomplete_beta(x) - tail) * inverse_density
    return np.where(probability > 0.5, 1 - x, x)


def _incomplete_beta(x: Table) -> Table:
    """I_x(0.6, 0.6) for x <= 1/2 by its hypergeometric series (DLMF 8.17.7)."""
    term = np.ones_like(x)
    total = term / _SHAPE
    for k in range(1, _TERMS):
        term = term * x * (k - _SHAPE) / k
        total = total + term / (_SHAPE + k)
    return x**_SHAPE * total / _COMPLETE
