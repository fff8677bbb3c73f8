"""Tables in Markdown files, made from results: what stands between two comments is written anew.

<!-- table latency+beside+operators results/demo.json -->
...
<!-- end -->

A `summary` is one table of several results: <!-- table summary results/demo.json results/sd15.json -->.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from calotype.errors import RequestError
from calotype_bench import figure_tables, results
from calotype_bench.figures import (
    APART,
    BESIDE,
    distance,
    fidelities,
    gains,
    least,
    profiles,
    share,
    spread,
    times,
)
from calotype_bench.measurement import Beside, Measurement, beside_best, compare
from calotype_bench.results import Comparison, Latency, Result, Techniques

_OF_LATENCY = ("latency", "beside", "operators")  # those that can be asked for together
_KINDS = (*_OF_LATENCY, "summary", "fidelity", "techniques", *figure_tables.KINDS)
_MARK = r"<!-- table ([\w+]+)((?: \S+\.json)+) -->"
_BEGIN = re.compile(rf"^{_MARK}$", re.MULTILINE)
_BLOCK = re.compile(rf"({_MARK}\n)((?:(?!<!-- table ).)*?)(<!-- end -->)", re.DOTALL)


def bring_up_to_date(text: str, folder: Path) -> str:
    """`text` with every table made from its result, whose path is relative to `folder`. RequestError."""

    def fresh(match: re.Match[str]) -> str:
        return (
            match[1] + _tables(match[2].split("+"), [folder / path for path in match[3].split()]) + match[5]
        )

    found, begun = _BLOCK.findall(text), _BEGIN.findall(text)
    if not begun:
        raise RequestError(
            "no table begins", "mark its place with <!-- table KIND RESULT.json --> and <!-- end -->"
        )
    if len(found) != len(begun):
        raise RequestError(f"{len(begun)} tables begin and {len(found)} end", "write <!-- end --> below each")
    return _BLOCK.sub(fresh, text)


def _tables(kinds: Sequence[str], paths: Sequence[Path]) -> str:
    if kinds == ["summary"]:
        return _summary([(path, results.read(path)) for path in paths])
    if len(paths) > 1:
        raise RequestError(f"{paths[1]}: a table `{'+'.join(kinds)}` is of one result, not of {len(paths)}")
    (path,) = paths
    if len(kinds) == 1 and kinds[0] in figure_tables.KINDS:
        (heads, lines), origin = figure_tables.read(kinds[0], path)
        return "\n".join([*_heads(*heads), *(_line(*cells) for cells in lines), "", origin, ""])
    result = results.read(path)
    if isinstance(result, Latency) and set(kinds) <= set(_OF_LATENCY):
        blocks = _of_latency(result, kinds)
    elif kinds == ["fidelity"] and isinstance(result, Comparison):
        blocks = [_fidelity(result)]
    elif kinds == ["techniques"] and isinstance(result, Techniques):
        blocks = [_techniques(result)]
    else:
        message = f"{path}: a table `{'+'.join(kinds)}` cannot be made of it"
        raise RequestError(message, f"kinds are {', '.join(_KINDS)}; of `latency`, some joined by +")
    return "\n".join([*blocks, f"`{results.command_line(result)}`, on {_where(result)}", ""])


def _of_latency(result: Latency, kinds: Sequence[str]) -> list[str]:
    blocks: list[str] = []
    for index, measurement in enumerate(result.measurements):
        if {"latency", "beside"} & set(kinds):
            blocks.append(_caption(measurement, result.alone) + "\n")
        if "latency" in kinds:
            blocks.append(_latency(result, index))
        if "beside" in kinds:
            blocks.append(_beside(measurement))
    return [*blocks, *([_operators(result)] if "operators" in kinds else [])]


def _summary(found: Sequence[tuple[Path, Result]]) -> str:
    """Of each result and job, ours on its first backend over the fastest other engine of the same precision."""
    lines = [*_heads("measured", "processor", "ours", *BESIDE.values(), "latents", "PSNR dB", "result")]
    for path, result in found:
        if not isinstance(result, Latency):
            raise RequestError(f"{path}: a summary cannot be made of it", "name results of `latency`")
        for measurement in result.measurements:
            what = f"{result.title}, {_counted(measurement.job.steps, 'step')}"
            ours = [row.engine for row in measurement.rows if row.engine.name == "calotype"]
            first = {engine.label for engine in ours if engine.backend == ours[0].backend}
            lines += [
                _line(what, str(result.machine["processor"]).split()[-1], *cells, f"`{path.name}`")
                for cells in _besides(measurement, beside_best(measurement.rows), list(BESIDE))
                if cells[0] in first
            ]
    return "\n".join([*lines, ""])


def _latency(result: Latency, index: int) -> str:
    measurement, floors = result.measurements[index], result.floors[index]
    ratios = compare(measurement.rows)
    lines = [
        *_heads(
            "engine", "fastest s", "median s", "p90 s", "spread", "times the first (95 %)", "a UNet step s", "VAE s",
            f"latents from {measurement.reference}", "PSNR dB", "percent of the floor",
        ),
    ]  # fmt: skip
    for number, row in enumerate(measurement.rows):
        if row.failure:
            lines.append(f"| {row.engine.label} | could not be measured: {row.failure} | | | | | | | | | |")
        if not row.samples:
            continue
        found = row.summary()
        step, decoder = (row.part(name) for name in ("unet_step", "vae_decoder"))
        each = "-" if step is None else _figure(step.median / row.samples[0].evaluations)
        seconds = (each, "-" if decoder is None else _figure(decoder.median))
        p90 = "-" if found.p90 is None else _figure(found.p90)
        ratio = times(measurement.rows, ratios, number)
        near = (*distance(row.fidelity), share(least(row, floors), found.median))
        cells = (_figure(found.minimum), _figure(found.median), p90, spread(found), ratio, *seconds, *near)
        lines.append(_line(row.engine.label, *cells))
    return "\n".join([*lines, ""])


def _beside(measurement: Measurement) -> str:
    beside = beside_best(measurement.rows)
    told = [part for part in BESIDE if any(part in parts for parts in beside.values())]
    near = (f"latents from {measurement.reference}", "PSNR dB")
    lines = _heads("ours, over the fastest other", *(BESIDE[part] for part in told), *near)
    return "\n".join([*lines, *(_line(*cells) for cells in _besides(measurement, beside, told)), ""])


def _besides(
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


def _caption(measurement: Measurement, alone: bool) -> str:
    job = measurement.job
    pictures, steps = _counted(job.batch, "picture"), _counted(job.steps, "step")
    return (
        f"{pictures} of {job.width}x{job.height}, {steps} of {job.scheduler} "
        f"({_counted(measurement.evaluations(), 'evaluation')} of the UNet), "
        f"guidance {job.guidance_scale:g}, {measurement.order(alone)}:"
    )


def _counted(number: int | str, name: str) -> str:
    return f"one {name}" if str(number) == "1" else f"{number or 'no'} {name}s"


def _operators(result: Latency) -> str:
    found = [profile for profile in profiles(result) if not profile.reason]
    kinds = dict.fromkeys(kind for profile in found for kind in profile.seconds)
    lines = [*_heads("program", "seconds", "profiled", *kinds)]
    for profile in found:
        measured = "-" if profile.measured is None else _figure(profile.measured)
        shares = (f"{profile.seconds.get(kind, 0.0) / profile.total:.1%}" for kind in kinds)
        lines.append(_line(profile.name, measured, _figure(profile.total), *shares))
    return "\n".join([*lines, ""])


def _fidelity(result: Comparison) -> str:
    lines = [*_heads("engine", "requests", *APART)]
    lines += [_line(label, str(requests), *apart) for label, requests, apart in fidelities(result)]
    lines += [
        f"| {label} | could not draw: {failure} | | | | | | |" for label, failure in result.failures.items()
    ]
    return "\n".join([*lines, ""])


def _techniques(result: Techniques) -> str:
    lines = [*_heads("program", "change", "places", "before, ms", "after, ms", "ratio (95 %)", "relative L2")]
    for gain in gains(result):
        seconds = (_figure(1000 * gain.before), _figure(1000 * gain.after))
        distance = f"{gain.distance:.1e}" if gain.distance else "equal"
        lines.append(_line(gain.program, gain.change, str(gain.places), *seconds, str(gain.ratio), distance))
    return "\n".join([*lines, ""])


def _where(result: Result) -> str:
    machine = result.machine
    gpu = machine.get("gpu")
    card = f"{gpu['gpu']}, " if isinstance(gpu, Mapping) and gpu["gpu"] else ""
    return f"{card}{machine['processor']}, {machine['cores']} cores, {figure_tables.hour(machine['date'])}"


def _heads(*names: str) -> Sequence[str]:
    return _line(*names), "|" + "---|" * len(names)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(seconds: float) -> str:
    """Three digits that mean something."""
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"
