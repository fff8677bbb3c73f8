"""Whether two runs of one comparison say the same: whether the intervals of each ratio overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calotype.errors import RequestError
from calotype_bench.figures import BESIDE, told_distance
from calotype_bench.jobs import Job
from calotype_bench.measurement import Row, compared_parts, peers_of, ratio_of
from calotype_bench.results import Latency
from calotype_bench.statistics import RUNS_FOR_INTERVAL, Ratio

_Place = tuple[Job, str, str, str]  # whose ratio: the engine, the engine that it is to, and the part
_Told = tuple[Ratio, str]  # and how far the engine's pictures are from the reference's


@dataclass(frozen=True, slots=True)
class Twice:
    """How many times as long as `base` an engine takes for a part, in either run, and how near its pictures are."""

    job: str
    engine: str
    base: str
    part: str
    one: Ratio
    other: Ratio
    near: tuple[str, str]

    @property
    def judged(self) -> bool:
        """Whether both are intervals: extremes of few processes need not overlap."""
        return min(self.one.draws, self.other.draws) >= RUNS_FOR_INTERVAL

    @property
    def agree(self) -> bool:
        """Whether the intervals, or extremes, overlap."""
        return self.one.low <= self.other.high and self.other.low <= self.one.high

    @property
    def subject(self) -> str:
        """Whose ratio it is, to what, and at which part."""
        return f"{self.engine} to {self.base}, {BESIDE[self.part]}"

    @property
    def within(self) -> bool:
        """Whether each value lies in the other's interval, which is more than that these overlap."""
        return self.one.low <= self.other.value <= self.one.high and (
            self.other.low <= self.one.value <= self.other.high
        )


def agreement(one: Latency, other: Latency) -> list[Twice]:
    """Every ratio that both results have, of one request and to one engine. RequestError where they have none."""
    left, right = _ratios(one), _ratios(other)
    found = [
        Twice(place[0].label, *place[1:], told[0], right[place][0], (told[1], right[place][1]))
        for place, told in left.items()
        if place in right
    ]
    if not found:
        raise RequestError(
            f"the results have no ratio in common: of {_subjects(left)} in one, of {_subjects(right)} in the other",
            "give two runs of one command, of two engines at least",
        )
    return found


def differences(one: Latency, other: Latency) -> list[str]:
    """What the two were not measured with alike, in words: then they need not agree."""
    alike = (
        ("the bundles", *([bundle["digest"] for bundle in each.bundles] for each in (one, other))),
        ("the processors", one.machine["processor"], other.machine["processor"]),
        ("the numbers of cores", one.machine["cores"], other.machine["cores"]),
        ("the pictures to warm up", one.warm_up, other.warm_up),
        ("the threads of engines", *(_set(each, "threads") for each in (one, other))),
        ("the devices of engines", *(_set(each, "device") for each in (one, other))),
    )
    left, right = _versions(one), _versions(other)
    apart = (
        f"{label} had {name} {found.get(name, 'none')} in one, {right[label].get(name, 'none')} in the other"
        for label, found in left.items()
        if label in right
        for name in dict.fromkeys((*found, *right[label]))
        if found.get(name) != right[label].get(name)
    )
    return [*(f"{what} are not the same" for what, left, right in alike if left != right), *apart]


def told(found: Sequence[Twice]) -> str:
    """A line each, and how many agree."""
    lines = [
        f"{each.job:40}{each.engine:28}{each.base:28}{BESIDE[each.part]:28}{each.one!s:32}{each.other!s:32}"
        f"{_verdict(each):28}{' and '.join(dict.fromkeys(each.near))}"
        for each in found
    ]
    judged = [each for each in found if each.judged]
    lines.append(f"{sum(each.agree for each in judged)} of {len(judged)} intervals overlap")
    if len(judged) < len(found):
        lines.append(f"{len(found) - len(judged)} ratios of fewer than {RUNS_FOR_INTERVAL} draws have none")
    return "\n".join(lines)


def _verdict(each: Twice) -> str:
    return ("overlap" if each.agree else "apart") + ("" if each.judged else ", of few draws")


def _ratios(result: Latency) -> dict[_Place, _Told]:
    """Of each job, engine, engine that it is to, and part."""
    found: dict[_Place, _Told] = {}
    for measurement in result.measurements:
        for row, base in _pairs([row for row in measurement.rows if row.samples]):
            for part in compared_parts(row.checked or base.checked):
                times = ratio_of(row, base, part)
                if times is not None:
                    place = (measurement.job, row.engine.label, base.engine.label, part)
                    found[place] = (times, told_distance(row.fidelity))
    return found


def _pairs(drew: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Ours over every peer, and the rest over the first."""
    beside = [(row, peer) for row in drew if row.engine.name == "calotype" for peer in peers_of(row, drew)]
    told = {peer.engine.label for row, peer in beside if row is drew[0]}
    return [*beside, *((row, drew[0]) for row in drew[1:] if row.engine.label not in told)]


def _subjects(found: Mapping[_Place, _Told]) -> str:
    return ", ".join(dict.fromkeys(f"{engine} to {base}" for _, engine, base, _ in found)) or "nothing"


def _set(result: Latency, option: str) -> set[object]:
    """What the engines were given."""
    return {getattr(row.engine, option) for each in result.measurements for row in each.rows}


def _versions(result: Latency) -> dict[str, Mapping[str, str]]:
    """Of each engine, by package."""
    rows = (row for each in result.measurements for row in each.rows)
    return {row.engine.label: row.ready.versions for row in rows if row.ready is not None}
