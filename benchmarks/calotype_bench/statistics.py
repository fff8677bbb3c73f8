"""What samples say, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = Sequence[float] | NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 95.0  # per cent
RUNS_FOR_P90 = 10
RUNS_FOR_P99 = 100
RUNS_FOR_INTERVAL = 6  # a bootstrap of 3 pairs holds 73 % where it says 95, of 5 pairs 94 %


@dataclass(frozen=True, slots=True)
class Summary:
    """Seconds of repeated runs. `spread` is the distance of the quartiles over the median.

    Quantiles between two runs are interpolated linearly, and None where too few runs were made to know them.
    """

    runs: int
    minimum: float
    median: float
    p90: float | None  # None below 10 runs
    p99: float | None  # None below 100 runs
    spread: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long the first takes as the second, by medians.

    `low` and `high` hold 95 % by a bootstrap from `RUNS_FOR_INTERVAL` draws on; of fewer they are the extremes,
    `value` among them.
    """

    value: float
    low: float
    high: float
    draws: int  # that the samples are: runs, or processes where there were several

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
        spread=float((quartiles[2] - quartiles[0]) / quartiles[1]),
    )


def ratio(numerator: Samples, denominator: Samples, openings: Sequence[int] = (), seed: int = 0) -> Ratio:
    """The ratio of medians of runs that were made in turn: pairs are drawn together, as what slowed one slowed both.

    `openings` says in which process each was made. Runs of one process are drawn together: what a process is given of
    memory it keeps. Where all were made in one process each run is a draw, and the interval knows nothing of others.
    """
    pairs = np.stack([np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)], axis=1)
    blocks = _blocks(pairs, openings)
    value, draws = float(_ratio(pairs)), len(blocks)
    if draws < RUNS_FOR_INTERVAL:
        single = [value, *map(_ratio, blocks)]  # medians of all can lie outside of what each of few gave
        return Ratio(value, min(single), max(single), draws)
    chosen = np.random.default_rng(seed).integers(0, draws, (RESAMPLES, draws))
    if len({len(block) for block in blocks}) == 1:
        medians = np.median(np.stack(blocks)[chosen].reshape(RESAMPLES, -1, 2), axis=1)
        resampled = medians[:, 0] / medians[:, 1]
    else:
        resampled = [_ratio(np.concatenate([blocks[index] for index in each])) for each in chosen]
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
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
