"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from calotype_bench import figures
from calotype_bench.figures import PARTS, Profile, distance, quantile, share, times, told_distance
from calotype_bench.measurement import Measurement, Row, beside_best, compare
from calotype_bench.rates import Rates
from calotype_bench.results import Comparison, Latency, Techniques
from calotype_bench.statistics import Summary

_LABEL = 32
_OF_PARTS: Mapping[str, Callable[[Summary], str]] = {
    "fastest seconds of the parts": lambda part: f"{part.minimum:.4f}",
    "median seconds of the parts": lambda part: f"{part.median:.4f}",
    "p90 seconds of the parts": lambda part: "-" if part.p90 is None else f"{part.p90:.4f}",
    "p99 seconds of the parts": lambda part: "-" if part.p99 is None else f"{part.p99:.4f}",
    "spread of the parts": figures.spread,
}


def latency(result: Latency) -> str:
    """Everything that was measured, job by job."""
    pieces = [f"timed: {result.timed}\nnot counted, to warm up: {result.warm_up or 'not said'}"]
    for measurement, floors in zip(result.measurements, result.floors, strict=True):
        pieces += [
            table(measurement, result.alone),
            beside(measurement),
            least(measurement.rows, floors, result.rates),
        ]
    pieces += [starts(measurement.rows) for measurement in result.measurements[:1]]
    pieces += [_operators(profile) for profile in figures.profiles(result)]
    pieces += ["\n".join(figures.other_versions(result))]
    return "\n\n".join(piece for piece in pieces if piece)


def summary(measured: Sequence[Latency]) -> str:
    """One table of everything: a line an engine, job and result."""
    heads = ("picture s", "p90 s", "UNet s", "VAE s", "floor", "latents", "load s", "GPU MiB")
    lines = [f"{'model, pictures':20}{'engine':{_LABEL}}" + "".join(f"{head:>10}" for head in heads)]
    for result in measured:
        for row in summary_rows(result):
            title = f"{result.title} x {row['pictures']}"
            cells = row["figures"] or [f"  could not be measured: {row['failure']}"]
            lines.append(f"{title:20}{row['engine']:{_LABEL}}" + "".join(f"{each:>10}" for each in cells))
    return "\n".join(lines)


def summary_rows(result: Latency) -> list[dict[str, Any]]:
    """The lines of `summary` for one result."""
    rows: list[dict[str, Any]] = []
    for measurement, floors in zip(result.measurements, result.floors, strict=True):
        for row in measurement.rows:
            found = {"pictures": measurement.job.batch, "engine": row.engine.label, "failure": row.failure}
            rows.append(found | {"figures": _summary(row, floors) if row.samples else []})
    return rows


def _summary(row: Row, floors: Mapping[str, Mapping[str, float]]) -> list[str]:
    found, parts = row.summary(), (row.part("unet_step"), row.part("vae_decoder"))
    return [
        f"{found.median:.3f}",
        quantile(found.p90),
        *("-" if part is None else f"{part.median:.3f}" for part in parts),
        share(figures.least(row, floors), found.median),
        distance(row.fidelity)[0],
        "-" if row.ready is None else f"{row.ready.load_seconds:.1f}",
        f"{row.samples[-1].device_bytes / 2**20:.0f}",
    ]


def table(measurement: Measurement, alone: bool = False) -> str:
    """Wall seconds of a request, how many times as long as the first measured row, and how far from the reference."""
    rows = measurement.rows
    ratios = compare(rows)
    heads = ("runs", "min s", "median s", "p90 s", "p99 s", "spread")
    lines = [
        f"{measurement.task}, {measurement.job.label}; {measurement.order(alone)}; "
        f"latents and pictures beside {measurement.beside}",
        "engine".ljust(_LABEL)
        + "".join(f"{head:>10}" for head in heads)
        + f"{'times the first (95 %)':>32}{'UNet runs':>11}{'latents':>10}{'PSNR dB':>9}{'joules':>8}",
    ]
    for index, row in enumerate(rows):
        if row.failure:
            lines.append(f"{row.engine.label:{_LABEL}}could not be measured: {row.failure}")
        if not row.samples:
            continue
        found = row.summary()
        tails = (quantile(found.p90), quantile(found.p99))
        cells = (f"{found.runs}", f"{found.minimum:.3f}", f"{found.median:.3f}", *tails)
        joules = row.joules()
        lines.append(
            row.engine.label.ljust(_LABEL)
            + "".join(f"{cell:>10}" for cell in cells)
            + f"{figures.spread(found):>10}{times(rows, ratios, index):>32}{row.samples[0].evaluations:>11}"
            + "{:>10}{:>9}".format(*distance(row.fidelity))
            + f"{'-' if joules is None else format(joules, '.0f'):>8}"
        )
    return "\n".join([*lines, "", *_parts(rows)])


def beside(measurement: Measurement) -> str:
    """Ours over the fastest other engine of the same precision, which differs by program; 1 is as fast."""
    lines: list[str] = []
    near = {row.engine.label: told_distance(row.fidelity) for row in measurement.rows}
    for label, parts in beside_best(measurement.rows).items():
        lines += [
            f"{label}, seconds over those of the fastest other engine in that precision (95 %)",
            f"    {near[label]} from {measurement.beside}",
        ]
        lines += [
            f"    {figures.BESIDE[part]:28}{found.ratio!s:32}{found.label}" for part, found in parts.items()
        ]
    return "\n".join(lines)


def least(rows: Sequence[Row], floors: Mapping[str, Mapping[str, float]], rates: Mapping[str, Rates]) -> str:
    """How much of each part's time the machine's own rate explains: 100 % would be nothing but multiplying."""
    lines: list[str] = []
    for precision, seconds in floors.items():
        rate = rates[precision]
        names = [*(name for name in PARTS if name in seconds), "total"]
        lines += [
            f"percent of the floor in {precision}: products at {rate.product / 1e12:.2f} TFLOP/s, convolutions at "
            f"{rate.convolution / 1e12:.2f}, as measured in this run (>100%: too low)",
            _columns("engine", names),
            _columns("floor, seconds", (f"{seconds[name]:.4f}" for name in names)),
        ]
        for row in rows:
            if row.samples and row.engine.dtype == precision:
                found = {name: part.median for name in names if (part := row.part(name))}
                found["total"] = row.summary().median
                sought = {**seconds, "total": figures.least(row, floors)}
                shares = (share(sought[name], found[name]) if name in found else "-" for name in names)
                lines.append(_columns(row.engine.label, shares))
    return "\n".join(lines)


def comparison(result: Comparison) -> str:
    """The worst over all requests, by engine; the reference in another precision is the noise floor."""
    lines = [
        f"beside {result.reference}, the worst of all requests",
        "engine".ljust(_LABEL) + "".join(f"{head:>17}" for head in ("requests", *figures.APART)),
    ]
    for label, requests, apart in figures.fidelities(result):
        lines.append(label.ljust(_LABEL) + "".join(f"{figure:>17}" for figure in (requests, *apart)))
    lines += [f"{label:{_LABEL}}could not draw: {failure}" for label, failure in result.failures.items()]
    return "\n".join(lines)


def techniques(result: Techniques) -> str:
    """What each change of a program gained."""
    heads = ("places", "before ms", "after ms")
    lines = [
        f"{'program, change':{_LABEL}}" + "".join(f"{head:>12}" for head in heads)
        + f"{'times as long (95 %)':>32}{'relative L2':>13}"
    ]  # fmt: skip
    for gain in figures.gains(result):
        cells = (str(gain.places), f"{1000 * gain.before:.3f}", f"{1000 * gain.after:.3f}")
        lines.append(
            f"{f'{gain.program}, {gain.change}':{_LABEL}}"
            + "".join(f"{cell:>12}" for cell in cells)
            + f"{gain.ratio!s:>32}{gain.distance:>13.1e}"
        )
    lines += [f"{program:{_LABEL}}no change is for it" for program in figures.untouched(result)]
    return "\n".join(lines)


def starts(rows: Sequence[Row]) -> str:
    """Of a run's first job: what a user waits for, and what the process holds."""
    lines = [
        "cold start, the median of its processes: seconds to import, to load, of the first picture (its UNet "
        "evaluations); peak memory of the process so far; of the GPU; share of a picture that timing its parts took"
    ]
    for label, start, first, last in figures.cold_starts(rows):
        memory = f"{last.resident_bytes / 2**20:.0f} MiB, {last.device_bytes / 2**20:.0f} MiB"
        seconds = (start.imported, start.loaded, start.first)
        spent = ", ".join(f"{each:.2f}" for each in seconds) + f" ({first.evaluations})"
        cost = last.measuring_seconds / last.seconds
        lines.append(f"{label:{_LABEL}}{spent}; {memory}; {cost:.3%}")
    return "\n".join(lines)


def _operators(profile: Profile) -> str:
    """Where the time of one run goes, by the kind of operator."""
    if profile.reason:
        return f"{profile.name}: not known by operator: {profile.reason}"
    without = "not known" if profile.measured is None else f"{profile.measured:.4f} s"
    kinds = ", ".join(f"{kind} {share:.1%}" for kind, share in profile.shares())
    return f"{profile.name}, {profile.total:.4f} s with its library's profiler on, {without} without: {kinds}"


def _parts(rows: Sequence[Row]) -> list[str]:
    """What a picture's summary tells, of each of its parts that an engine told."""
    lines: list[str] = []
    names = [name for name in PARTS if any(row.part(name) is not None for row in rows)]
    for head, told in _OF_PARTS.items():
        cells = {
            row.engine.label: [told(part) if (part := row.part(name)) is not None else "-" for name in names]
            for row in rows
        }
        known = {label: found for label, found in cells.items() if any(each != "-" for each in found)}
        if known:
            lines += [_columns(head, names), *(_columns(label, found) for label, found in known.items())]
    return lines


def _columns(label: str, figures: Iterable[str]) -> str:
    return label.ljust(_LABEL) + "".join(f"{figure:>16}" for figure in figures)
