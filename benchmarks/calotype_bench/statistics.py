"""What samples say, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = Sequence[float] | NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 95.0  # per cent
RUNS_FOR_SPREAD = 6
RUNS_FOR_P90 = 6
RUNS_FOR_P99 = 100
RUNS_FOR_INTERVAL = 6  # a bootstrap of 3 draws holds 73 % where it says 95, of 4 88 %, of more 91 to 95 %


@dataclass(frozen=True, slots=True)
class Summary:
    """Seconds of repeated runs. `spread` is the distance of the quartiles over the median.

    Quantiles between two runs are interpolated linearly. What too few runs were made to know is None.
    """

    runs: int
    minimum: float
    median: float
    p90: float | None  # None below 6 runs
    p99: float | None  # None below 100 runs
    spread: float | None  # None below 6 runs


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long the first takes as the second: the median over draws of their ratio in each.

    A draw is a process of each, where there were several, or else a run of each. `low` and `high` hold 95 % by a
    bootstrap from `RUNS_FOR_INTERVAL` draws on; of fewer they are the extremes.
    """

    value: float
    low: float
    high: float
    draws: int

    def __str__(self) -> str:
        bounds = f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.value:.3f} ({bounds if self.draws >= RUNS_FOR_INTERVAL else f'all of {bounds}'})"


def summarise(samples: Samples) -> Summary:
    """The summary of at least one sample."""
    values = np.asarray(samples, np.float64)
    quartiles = np.percentile(values, [25, 50, 75])
    return Summary(
        runs=len(values),
        minimum=float(values.min()),
        median=float(quartiles[1]),
        p90=float(np.percentile(values, 90)) if len(values) >= RUNS_FOR_P90 else None,
        p99=float(np.percentile(values, 99)) if len(values) >= RUNS_FOR_P99 else None,
        spread=float((quartiles[2] - quartiles[0]) / quartiles[1])
        if len(values) >= RUNS_FOR_SPREAD
        else None,
    )


def ratio(numerator: Samples, denominator: Samples, openings: Sequence[int] = (), seed: int = 0) -> Ratio:
    """How many times as long what was made in turn took: first in each draw, as what slowed one slowed both.

    `openings` says in which process each run was made. Runs of one process are one draw, of which the medians are
    taken: what a process is given of memory it keeps. Where all were made in one process each run is a draw, and the
    interval knows nothing of other processes.
    """
    pairs = np.stack([np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)], axis=1)
    each = np.array([_ratio(block) for block in _blocks(pairs, openings)])
    value, draws = float(np.median(each)), len(each)
    if draws < RUNS_FOR_INTERVAL:
        return Ratio(value, float(each.min()), float(each.max()), draws)
    chosen = np.random.default_rng(seed).integers(0, draws, (RESAMPLES, draws))
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(np.median(each[chosen], axis=1), [tail, 100 - tail])
    return Ratio(value, float(low), float(high), draws)


def _blocks(pairs: NDArray[np.float64], openings: Sequence[int]) -> list[NDArray[np.float64]]:
    """The pairs of each process; every pair by itself where there was one process."""
    if len(set(openings)) < 2:
        return [pair[None] for pair in pairs]
    number = np.asarray(openings)
    return [pairs[number == each] for each in dict.fromkeys(openings)]


def _ratio(pairs: NDArray[np.float64]) -> float:
    first, second = np.median(pairs, axis=0)
    return float(first / second)
