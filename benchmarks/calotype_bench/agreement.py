"""Whether two runs of one comparison say the same: whether the intervals of each ratio overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calotype.errors import RequestError
from calotype_bench.figures import told_distance
from calotype_bench.jobs import Job
from calotype_bench.measurement import compare
from calotype_bench.results import Latency
from calotype_bench.statistics import Ratio


@dataclass(frozen=True, slots=True)
class Twice:
    """How many times as long as the first row an engine takes at a job, in either run, and how near its pictures."""

    job: str
    engine: str
    one: Ratio
    other: Ratio
    near: tuple[str, str]

    @property
    def agree(self) -> bool:
        """Whether the intervals overlap."""
        return self.one.low <= self.other.high and self.other.low <= self.one.high


def agreement(one: Latency, other: Latency) -> list[Twice]:
    """Every ratio that both results have, of one request. RequestError where they have none, or not to one engine."""
    bases = [_base(result) for result in (one, other)]
    if bases[0] != bases[1]:
        raise RequestError(f"agree: ratios are to {bases[0]} in one result, to {bases[1]} in the other")
    left, right = _ratios(one), _ratios(other)
    found = [
        Twice(job.label, engine, one_ratio, right[job, engine][0], (near, right[job, engine][1]))
        for (job, engine), (one_ratio, near) in left.items()
        if (job, engine) in right
    ]
    if not found:
        raise RequestError(
            "the results have no ratio in common", "give two runs of one command, of two engines at least"
        )
    return found


def differences(one: Latency, other: Latency) -> list[str]:
    """What the two were not measured with alike, in words: then they need not agree."""
    return [
        f"{what} are not the same"
        for what, left, right in (
            ("the bundles", one.bundles, other.bundles),
            ("the processors", one.machine["processor"], other.machine["processor"]),
        )
        if left != right
    ]


def told(found: Sequence[Twice]) -> str:
    """A line each, and how many agree."""
    lines = [
        f"{each.job:40}{each.engine:28}{each.one!s:32}{each.other!s:32}{'overlap' if each.agree else 'apart':10}"
        + " and ".join(dict.fromkeys(each.near))
        for each in found
    ]
    return "\n".join([*lines, f"{sum(each.agree for each in found)} of {len(found)} overlap"])


def _base(result: Latency) -> str:
    """The engine that ratios are to."""
    rows = (row for each in result.measurements for row in each.rows if row.samples)
    return next((row.engine.label for row in rows), "nothing")


def _ratios(result: Latency) -> dict[tuple[Job, str], tuple[Ratio, str]]:
    """Of each job and engine, and how far its pictures are from the reference's."""
    return {
        (each.job, each.rows[index].engine.label): (ratio, told_distance(each.rows[index].fidelity))
        for each in result.measurements
        for index, ratio in compare(each.rows).items()
    }
