"""Figures as text, which the terminal, Markdown and the page have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn
from calotype_bench.measurement import PROGRAMS, TOTAL, UNCHECKED, Beside, Measurement, Row, Start
from calotype_bench.results import Comparison, Latency, Techniques, Variant
from calotype_bench.statistics import Ratio, Summary, ratio

PARTS = (*PROGRAMS, "runtime")
BESIDE = {  # parts, in words
    TOTAL: "picture",
    UNCHECKED: "picture but for its checker",
    **{name: name.replace("_", " ") for name in PROGRAMS},
}
APART = ("latents, median", "latents", "cosine", "PSNR dB", "SSIM", "largest of 255")


@dataclass(frozen=True, slots=True)
class Profile:
    """Where one run of a program went, as its library's profiler told; `reason`: why it did not."""

    name: str
    seconds: Mapping[str, float]  # by kind of operator, with the profiler on
    measured: float | None  # seconds of a run without it
    reason: str = ""

    @property
    def total(self) -> float:
        """Seconds of all kinds."""
        return sum(self.seconds.values())

    def shares(self) -> list[tuple[str, float]]:
        """Kinds that are a thousandth at least."""
        return [
            (kind, spent / self.total) for kind, spent in self.seconds.items() if spent / self.total >= 0.001
        ]


def profiles(result: Latency) -> list[Profile]:
    """Of every row and program that was profiled."""
    found: list[Profile] = []
    for label, programs in result.operators.items():
        for program, seconds in programs.items():
            name, reason = f"{label}, {program}", seconds if isinstance(seconds, str) else ""
            measured = _once(result.measurements[0], label, program)
            found.append(Profile(name, {} if isinstance(seconds, str) else seconds, measured, reason))
    return found


def _once(measurement: Measurement, label: str, program: str) -> float | None:
    """The median seconds of a program's run in the measurement, for one picture; None where more were drawn at once."""
    row = next((row for row in measurement.rows if row.engine.label == label), None)
    part = None if row is None or measurement.job.batch > 1 else row.part(program)
    if row is None or part is None:
        return None
    return part.median / (row.samples[0].evaluations if program == "unet_step" else 1)


def times(rows: Sequence[Row], ratios: Mapping[int, Ratio], index: int) -> str:
    """How many times as long a measured row takes as the first one that could be; or why that says nothing."""
    first = next(number for number, row in enumerate(rows) if row.samples)
    if index in ratios:
        return str(ratios[index])
    if rows[index].faithful:
        return "1" if index == first else "no base to compare with"
    return "not compared" if rows[index].fidelity is None else "another picture"


def quantile(seconds: float | None) -> str:
    """Seconds, or a dash where too few runs were made to know them."""
    return "-" if seconds is None else f"{seconds:.3f}"


def spread(found: Summary) -> str:
    """Per cent, or a dash where too few runs were made to know them."""
    return "-" if found.spread is None else f"{found.spread:.1%}"


def least(row: Row, floors: Mapping[str, Mapping[str, float]]) -> float | None:
    """Least seconds of a row's picture, of `floors` by precision and part; without a checker where it ran none."""
    found = floors.get(row.engine.dtype, {})
    if row.samples and not row.checked and "safety_checker" in found:
        return found["total"] - found["safety_checker"]
    return found.get("total")


def share(least: float | None, seconds: float) -> str:
    """How much of `seconds` the floor explains. Above 100 % the machine's rate was measured too low."""
    if least is None:
        return "-"
    return f"{least / seconds:.0%}" if least <= seconds else ">100%"


def distance(found: Fidelity | None) -> tuple[str, str]:
    """Relative L2 of the latents and PSNR of the pictures, as text."""
    if found is None:
        return "-", "-"
    latents = "-" if found.latents is None else f"{found.latents:.1e}"
    return latents, "equal" if found.psnr is None else f"{found.psnr:.1f}"


def told_distance(found: Fidelity | None) -> str:
    """`distance` in words, for a figure that stands by itself."""
    latents, ratio = distance(found)
    return f"latents {latents}, pictures {ratio}{'' if ratio in ('equal', '-') else ' dB'}"


def apart(found: Sequence[Fidelity]) -> tuple[str, str, str, str, str, str]:
    """The median distance of latents, and the largest of each kind: latents, cosine, PSNR, SSIM, of a pixel value."""
    latents = [each.latents for each in found if each.latents is not None]
    cosines = [each.cosine for each in found if each.cosine is not None]
    ratios = [each.psnr for each in found if each.psnr is not None]
    return (
        f"{median(latents):.1e}" if latents else "-",
        f"{max(latents):.1e}" if latents else "-",
        f"{min(cosines):.7f}" if cosines else "-",
        f"{min(ratios):.1f}" if ratios else "equal",
        f"{min(each.ssim for each in found):.4f}",
        str(max(each.largest for each in found)),
    )


def fidelities(result: Comparison) -> list[tuple[str, int, tuple[str, ...]]]:
    """Each engine, how many requests it drew, how far `apart` they are; the reference in another precision is noise."""
    found: list[tuple[str, int, tuple[str, ...]]] = []
    for label in dict.fromkeys(pair.engine for pair in result.pairs):
        pairs = [pair.fidelity for pair in result.pairs if pair.engine == label]
        name = f"{label} (noise floor)" if label in result.noise else label
        found.append((name, len(pairs), apart(pairs)))
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """What a change made of a program's seconds; `ratio` is how many times as long it takes after it."""

    program: str
    change: str
    places: int
    before: float  # median seconds
    after: float
    ratio: Ratio
    distance: float  # relative L2 of the outputs from the program's without any change


def gains(result: Techniques) -> list[Gain]:
    """Each change of each program, beside the program with the changes before it."""
    found: list[Gain] = []
    for program, variants in result.programs.items():
        for before, after in pairwise(variants):
            openings = [number for number, opening in enumerate(after.samples) for _ in opening]
            old, new = _seconds(before), _seconds(after)
            found.append(
                Gain(
                    program, after.change, after.places, median(old), median(new), ratio(new, old, openings),
                    after.distance,
                )
            )  # fmt: skip
    return found


def untouched(result: Techniques) -> list[str]:
    """The programs that no change is for."""
    return [program for program, variants in result.programs.items() if len(variants) == 1]


def _seconds(variant: Variant) -> list[float]:
    return [sample for opening in variant.samples for sample in opening]


def told_parts(besides: Iterable[Mapping[str, Mapping[str, Beside]]]) -> list[str]:
    """The parts that any of these, which are of `beside_best`, compares."""
    found = {part for beside in besides for parts in beside.values() for part in parts}
    return [part for part in BESIDE if part in found]


def besides(
    measurement: Measurement, beside: Mapping[str, Mapping[str, Beside]], told: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Each of our rows, its ratios to the fastest other engine at the parts `told`, and how near its pictures are."""
    distances = {row.engine.label: distance(row.fidelity) for row in measurement.rows}
    for label, parts in beside.items():
        found = (parts.get(part) for part in told)
        yield (
            label,
            *("-" if each is None else f"{each.ratio} {each.label}" for each in found),
            *distances[label],
        )


def cold_starts(rows: Sequence[Row]) -> list[tuple[str, Start, Drawn, Drawn]]:
    """Of the engines that drew: name, median cold start, first picture, and the last one, whose memory is the most."""
    return [
        (row.engine.label, start, row.first, row.samples[-1] if row.samples else row.first)
        for row in rows
        if row.first is not None and (start := row.start()) is not None
    ]


def other_versions(result: Latency) -> list[str]:
    """In words, where a peer's OpenVINO or ONNX Runtime is of another version than ours."""
    ready = {
        row.engine: row.ready.versions
        for measurement in result.measurements
        for row in measurement.rows
        if row.ready is not None
    }
    ours = next((versions for engine, versions in ready.items() if engine.name == "calotype"), {})
    return [
        f"{engine.label} has {library} {version}, and ours {ours[library]}"
        for engine, versions in ready.items()
        for library, version in versions.items()
        if library in ("openvino", "onnxruntime") and ours.get(library, version) != version
    ]


def counted(number: int | str, name: str) -> str:
    """A number and what it is of."""
    return f"one {name}" if str(number) == "1" else f"{number or 'no'} {name}s"
