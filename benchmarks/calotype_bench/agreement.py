"""Whether two runs of one comparison say the same: whether the intervals of each ratio overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calotype.errors import RequestError
from calotype_bench.measurement import compare
from calotype_bench.results import Latency
from calotype_bench.statistics import Ratio


@dataclass(frozen=True, slots=True)
class Twice:
    """How many times as long as the first row an engine takes at a job, in either run."""

    job: str
    engine: str
    one: Ratio
    other: Ratio

    @property
    def agree(self) -> bool:
        """Whether the intervals overlap."""
        return self.one.low <= self.other.high and self.other.low <= self.one.high


def agreement(one: Latency, other: Latency) -> list[Twice]:
    """Every ratio that both results have. RequestError where they have none."""
    left, right = _ratios(one), _ratios(other)
    found = [Twice(*name, left[name], right[name]) for name in left if name in right]
    if not found:
        raise RequestError(
            "the results have no ratio in common", "give two runs of one command, of two engines at least"
        )
    return found


def told(found: Sequence[Twice]) -> str:
    """A line each, and how many agree."""
    lines = [
        f"{each.job:40}{each.engine:28}{each.one!s:32}{each.other!s:32}{'overlap' if each.agree else 'apart'}"
        for each in found
    ]
    return "\n".join([*lines, f"{sum(each.agree for each in found)} of {len(found)} overlap"])


def _ratios(result: Latency) -> dict[tuple[str, str], Ratio]:
    return {
        (each.job.label, each.rows[index].engine.label): ratio
        for each in result.measurements
        for index, ratio in compare(each.rows).items()
    }
