"""Tables in Markdown of several results of `calotype-bench latency`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from calotype.errors import RequestError
from calotype_bench import results
from calotype_bench.agreement import agreement
from calotype_bench.figures import BESIDE, besides, counted, told_parts
from calotype_bench.markdown import heads, line
from calotype_bench.measurement import beside_best
from calotype_bench.results import Latency


def agreements(paths: Sequence[Path]) -> str:
    """Of each pair of results: how many intervals of six processes of each overlap. RequestError."""
    if len(paths) % 2:
        raise RequestError(f"{paths[-1]}: expected pairs of results, found {len(paths)}")
    lines = [*heads("pair", "hours apart", "intervals that overlap", "each within the other's", "apart")]
    for pair in zip(paths[::2], paths[1::2], strict=True):
        one, other = (_read(path) for path in pair)
        judged = [each for each in agreement(one, other) if each.judged]
        apart = [each.subject for each in judged if not each.agree]
        lines.append(
            line(
                ", ".join(f"`{path.name}`" for path in pair),
                f"{abs(_hours(other) - _hours(one)):.1f}",
                f"{sum(each.agree for each in judged)} of {len(judged)}",
                f"{sum(each.within for each in judged)} of {len(judged)}",
                "; ".join(dict.fromkeys(apart)),
            )
        )
    return "\n".join([*lines, ""])


def summary(paths: Sequence[Path]) -> str:
    """Of each result and job, ours on its first backend over the fastest other engine of the same precision.

    RequestError.
    """
    found = [
        (path, result, measurement, beside_best(measurement.rows))
        for path, result in ((path, _read(path)) for path in paths)
        for measurement in result.measurements
    ]
    told = told_parts(beside for *_, beside in found)
    names = (BESIDE[part] for part in told)
    lines = [*heads("measured", "processor", "ours", *names, "latents", "PSNR dB", "result")]
    for path, result, measurement, beside in found:
        what = f"{result.title}, {counted(measurement.job.steps, 'step')}"
        ours = [row.engine for row in measurement.rows if row.engine.name == "calotype"]
        first = {engine.label for engine in ours if engine.backend == ours[0].backend}
        lines += [
            line(what, str(result.machine["processor"]).split()[-1], *cells, f"`{path.name}`")
            for cells in besides(measurement, beside, told)
            if cells[0] in first
        ]
    return "\n".join([*lines, ""])


def _read(path: Path) -> Latency:
    found = results.read(path)
    if not isinstance(found, Latency):
        raise RequestError(f"{path}: a table of several cannot be made of it", "name results of `latency`")
    return found


def _hours(result: Latency) -> float:
    """When it was measured, from some moment on."""
    return datetime.fromisoformat(str(result.machine["date"])).timestamp() / 3600
