"""What samples say, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = Sequence[float] | NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 95.0  # per cent
RUNS_FOR_P99 = 100
RUNS_FOR_INTERVAL = 6  # a bootstrap of 3 pairs holds 73 % where it says 95, of 5 pairs 94 %


@dataclass(frozen=True, slots=True)
class Summary:
    """Seconds of repeated runs. `spread` is the distance of the quartiles over the median."""

    runs: int
    minimum: float
    median: float
    p90: float
    p99: float | None  # None below 100 runs: nothing is known of it
    spread: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long the first takes as the second, by medians.

    `low` and `high` hold 95 % by a bootstrap from `RUNS_FOR_INTERVAL` runs on; of fewer runs they are the extremes.
    """

    value: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        bounds = f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.value:.3f} ({bounds if self.runs >= RUNS_FOR_INTERVAL else f'all of {bounds}'})"


def summarise(samples: Samples) -> Summary:
    """The summary of at least one sample."""
    values = np.asarray(samples, np.float64)
    quartiles = np.percentile(values, [25, 50, 75])
    return Summary(
        runs=len(values),
        minimum=float(values.min()),
        median=float(quartiles[1]),
        p90=float(np.percentile(values, 90)),
        p99=float(np.percentile(values, 99)) if len(values) >= RUNS_FOR_P99 else None,
        spread=float((quartiles[2] - quartiles[0]) / quartiles[1]),
    )


def ratio(numerator: Samples, denominator: Samples, seed: int = 0) -> Ratio:
    """The ratio of medians of runs that were made in turn: pairs are drawn together, as what slowed one slowed both."""
    pairs = np.stack([np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)], axis=1)
    value, runs = float(_ratios(np.median(pairs, axis=0)[None])[0]), len(pairs)
    if runs < RUNS_FOR_INTERVAL:
        single = _ratios(pairs)
        return Ratio(value, float(single.min()), float(single.max()), runs)
    chosen = np.random.default_rng(seed).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    resampled = _ratios(np.median(pairs[chosen], axis=1))
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Ratio(value, float(low), float(high), runs)


def _ratios(medians: NDArray[np.float64]) -> NDArray[np.float64]:
    return medians[:, 0] / medians[:, 1]
