"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calotype_bench.fidelity import Fidelity
from calotype_bench.measurement import Measurement, Row, compare
from calotype_bench.rates import Rates
from calotype_bench.results import Comparison, Latency
from calotype_bench.statistics import Ratio

PARTS = ("text_encoder", "unet_step", "vae_decoder", "safety_checker", "runtime")
_LABEL = 32


def latency(result: Latency) -> str:
    """Everything that was measured, job by job."""
    pieces = [f"timed: {result.timed}"]
    for measurement, floors in zip(result.measurements, result.floors, strict=True):
        pieces += [table(measurement), least(measurement.rows, floors, result.rates)]
    pieces += [starts(measurement.rows) for measurement in result.measurements[:1]]
    pieces.append(operators(result.operators))
    return "\n\n".join(piece for piece in pieces if piece)


def summary(measured: Sequence[Latency]) -> str:
    """One table of everything: a line an engine, job and result."""
    heads = ("picture s", "p90 s", "UNet s", "VAE s", "floor", "latents", "load s", "GPU MiB")
    lines = [f"{'model, pictures':20}{'engine':{_LABEL}}" + "".join(f"{head:>10}" for head in heads)]
    for result in measured:
        for row in summary_rows(result):
            title = f"{result.title} x {row['pictures']}"
            figures = row["figures"] or [f"  could not be measured: {row['failure']}"]
            lines.append(f"{title:20}{row['engine']:{_LABEL}}" + "".join(f"{each:>10}" for each in figures))
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
    least = floors.get(row.engine.dtype, {}).get("total")
    return [
        f"{found.median:.3f}",
        f"{found.p90:.3f}",
        *("-" if part is None else f"{part.median:.3f}" for part in parts),
        "-" if least is None else f"{least / found.median:.0%}",
        distance(row.fidelity)[0],
        "-" if row.ready is None else f"{row.ready.load_seconds:.1f}",
        f"{row.samples[-1].device_bytes / 2**20:.0f}",
    ]


def table(measurement: Measurement) -> str:
    """Wall seconds of a request, how many times as long as the first measured row, and how far from the reference."""
    job, rows = measurement.job, measurement.rows
    ratios = compare(rows)
    heads = ("runs", "min s", "median s", "p90 s", "p99 s", "spread")
    lines = [
        f"{job.batch} x {job.width}x{job.height}, {job.steps} steps of {job.scheduler}; {measurement.order()}; "
        f"latents and pictures beside {measurement.reference or 'nothing'}",
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
        p99 = "-" if found.p99 is None else f"{found.p99:.3f}"
        figures = (f"{found.runs}", f"{found.minimum:.3f}", f"{found.median:.3f}", f"{found.p90:.3f}", p99)
        joules = row.joules()
        lines.append(
            row.engine.label.ljust(_LABEL)
            + "".join(f"{figure:>10}" for figure in figures)
            + f"{found.spread:>10.1%}{times(rows, ratios, index):>32}{row.samples[0].evaluations:>11}"
            + "{:>10}{:>9}".format(*distance(row.fidelity))
            + f"{'-' if joules is None else format(joules, '.0f'):>8}"
        )
    return "\n".join([*lines, "", *_parts(rows)])


def times(rows: Sequence[Row], ratios: Mapping[int, Ratio], index: int) -> str:
    """How many times as long a measured row takes as the first one that could be; or why that says nothing."""
    first = next(number for number, row in enumerate(rows) if row.samples)
    if index in ratios:
        return str(ratios[index])
    if index == first:
        return "1"
    return "not compared" if rows[index].fidelity is None else "another picture"


def distance(found: Fidelity | None) -> tuple[str, str]:
    """Relative L2 of the latents and PSNR of the pictures, as text."""
    if found is None:
        return "-", "-"
    latents = "-" if found.latents is None else f"{found.latents:.1e}"
    return latents, "equal" if found.psnr is None else f"{found.psnr:.1f}"


def least(rows: Sequence[Row], floors: Mapping[str, Mapping[str, float]], rates: Mapping[str, Rates]) -> str:
    """How much of each part's time the machine's own rate explains: 100 % would be nothing but multiplying."""
    lines: list[str] = []
    for precision, seconds in floors.items():
        rate = rates[precision]
        names = [*(name for name in PARTS if name in seconds), "total"]
        lines += [
            f"percent of the floor in {precision}: products at {rate.product / 1e12:.2f} TFLOP/s, convolutions at "
            f"{rate.convolution / 1e12:.2f}, as measured in this run",
            _columns("engine", names),
            _columns("floor, seconds", (f"{seconds[name]:.4f}" for name in names)),
        ]
        for row in rows:
            if row.samples and row.engine.dtype == precision:
                found = {name: part.median for name in names if (part := row.part(name))}
                found["total"] = row.summary().median
                shares = (f"{seconds[name] / found[name]:.1%}" if name in found else "-" for name in names)
                lines.append(_columns(row.engine.label, shares))
    return "\n".join(lines)


def operators(found: Mapping[str, Mapping[str, Mapping[str, float] | str]]) -> str:
    """Where the time of one run goes, by the kind of operator."""
    lines: list[str] = []
    for label, programs in found.items():
        for program, seconds in programs.items():
            if isinstance(seconds, str):
                lines.append(f"{label}, {program}: not known by operator: {seconds}")
                continue
            total = sum(seconds.values())
            shares = (
                f"{kind} {spent / total:.1%}" for kind, spent in seconds.items() if spent / total >= 0.001
            )
            lines.append(
                f"{label}, {program}, {total:.4f} s with its library's profiler on: " + ", ".join(shares)
            )
    return "\n".join(lines)


def comparison(result: Comparison) -> str:
    """The worst over all requests, by engine; the reference in another precision is the noise floor."""
    lines = [
        f"beside {result.reference}, the worst of all requests",
        "engine".ljust(_LABEL)
        + "".join(f"{head:>12}" for head in ("requests", "latents", "cosine", "PSNR dB", "SSIM", "largest")),
    ]
    for label in dict.fromkeys(pair.engine for pair in result.pairs):
        found = [pair.fidelity for pair in result.pairs if pair.engine == label]
        name = f"{label} (noise floor)" if label in result.noise else label
        lines.append(name.ljust(_LABEL) + "".join(f"{figure:>12}" for figure in (len(found), *worst(found))))
    lines += [f"{label:{_LABEL}}could not draw: {failure}" for label, failure in result.failures.items()]
    return "\n".join(lines)


def worst(found: Sequence[Fidelity]) -> tuple[str, str, str, str, str]:
    """The largest distance of each kind: latents, cosine, PSNR, SSIM, largest difference."""
    latents = [each.latents for each in found if each.latents is not None]
    cosines = [each.cosine for each in found if each.cosine is not None]
    ratios = [each.psnr for each in found if each.psnr is not None]
    return (
        f"{max(latents):.1e}" if latents else "-",
        f"{min(cosines):.7f}" if cosines else "-",
        f"{min(ratios):.1f}" if ratios else "equal",
        f"{min(each.ssim for each in found):.4f}",
        str(max(each.largest for each in found)),
    )


def starts(rows: Sequence[Row]) -> str:
    """Of a run's first job: what a user waits for, and what the process holds."""
    lines = [
        "cold start: seconds to import, to load, of the first picture (its UNet evaluations); peak memory of the "
        "process so far; of the GPU; share of a picture that timing its parts took"
    ]
    for row in rows:
        if row.ready is None or row.first is None:
            continue
        last = row.samples[-1] if row.samples else row.first
        memory = f"{last.resident_bytes / 2**20:.0f} MiB, {last.device_bytes / 2**20:.0f} MiB"
        seconds = (row.ready.import_seconds, row.ready.load_seconds, row.first.seconds)
        spent = ", ".join(f"{each:.2f}" for each in seconds) + f" ({row.first.evaluations})"
        share = last.measuring_seconds / last.seconds
        lines.append(f"{row.engine.label:{_LABEL}}{spent}; {memory}; {share:.3%}")
    return "\n".join(lines)


def _parts(rows: Sequence[Row]) -> list[str]:
    lines = [_columns("median seconds of the parts", PARTS)]
    for row in rows:
        found = [row.part(name) for name in PARTS] if row.samples else []
        if any(found):
            lines.append(
                _columns(row.engine.label, ("-" if part is None else f"{part.median:.4f}" for part in found))
            )
    return lines


def _columns(label: str, figures: Iterable[str]) -> str:
    return label.ljust(_LABEL) + "".join(f"{figure:>16}" for figure in figures)
