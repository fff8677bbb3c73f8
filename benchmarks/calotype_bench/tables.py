"""Tables in Markdown files, made from results: what stands between two comments is written anew.

<!-- table latency results/demo.json -->
...
<!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
from calotype_bench.measurement import Measurement, beside_best, compare
from calotype_bench.results import Comparison, Latency, Result, Techniques

_KINDS = ("latency", "beside", "operators", "fidelity", "techniques", *figure_tables.KINDS)
_BEGIN = re.compile(r"^<!-- table \w+ \S+ -->$", re.MULTILINE)
_BLOCK = re.compile(r"(<!-- table (\w+) (\S+) -->\n)((?:(?!<!-- table ).)*?)(<!-- end -->)", re.DOTALL)


def bring_up_to_date(text: str, folder: Path) -> str:
    """`text` with every table made from its result, whose path is relative to `folder`. RequestError."""

    def fresh(match: re.Match[str]) -> str:
        return match[1] + _table(match[2], folder / match[3]) + match[5]

    found, begun = _BLOCK.findall(text), _BEGIN.findall(text)
    if not begun:
        raise RequestError(
            "no table begins", "mark its place with <!-- table KIND RESULT.json --> and <!-- end -->"
        )
    if len(found) != len(begun):
        raise RequestError(f"{len(begun)} tables begin and {len(found)} end", "write <!-- end --> below each")
    return _BLOCK.sub(fresh, text)


def _table(kind: str, path: Path) -> str:
    if kind in figure_tables.KINDS:
        (heads, lines), origin = figure_tables.read(kind, path)
        return "\n".join([*_heads(*heads), *(_line(*cells) for cells in lines), "", origin, ""])
    result = results.read(path)
    if kind == "latency" and isinstance(result, Latency):
        blocks = [_latency(result, index) for index in range(len(result.measurements))]
    elif kind == "operators" and isinstance(result, Latency):
        blocks = [_operators(result)]
    elif kind == "beside" and isinstance(result, Latency):
        blocks = [_beside(measurement) for measurement in result.measurements]
    elif kind == "fidelity" and isinstance(result, Comparison):
        blocks = [_fidelity(result)]
    elif kind == "techniques" and isinstance(result, Techniques):
        blocks = [_techniques(result)]
    else:
        raise RequestError(f"{path}: a table `{kind}` cannot be made of it", f"kinds are {', '.join(_KINDS)}")
    return "\n".join([*blocks, f"`{results.command_line(result)}`, on {_where(result)}", ""])


def _latency(result: Latency, index: int) -> str:
    measurement, floors = result.measurements[index], result.floors[index]
    ratios = compare(measurement.rows)
    lines = [
        _caption(measurement),
        "",
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
    near = (f"latents from {measurement.reference}", "PSNR dB")
    beside = beside_best(measurement.rows)
    told = [name for name in BESIDE if any(name in parts for parts in beside.values())]
    lines = [_caption(measurement), "", *_heads("engine", *(BESIDE[name] for name in told), *near)]
    distances = {row.engine.label: distance(row.fidelity) for row in measurement.rows}
    for label, parts in beside.items():
        found = (parts.get(name) for name in told)
        cells = ("-" if each is None else f"{each.ratio} {each.label}" for each in found)
        lines.append(_line(label, *cells, *distances[label]))
    return "\n".join([*lines, ""])


def _caption(measurement: Measurement) -> str:
    job = measurement.job
    pictures, steps = _counted(job.batch, "picture"), _counted(job.steps, "step")
    return (
        f"{pictures} of {job.width}x{job.height}, {steps} of {job.scheduler} "
        f"({_counted(measurement.evaluations(), 'evaluation')} of the UNet), "
        f"guidance {job.guidance_scale:g}, {measurement.order()}:"
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
    return f"{card}{machine['processor']}, {machine['cores']} cores, {str(machine['date'])[:10]}"


def _heads(*names: str) -> Sequence[str]:
    return _line(*names), "|" + "---|" * len(names)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(seconds: float) -> str:
    """Three digits that mean something."""
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"
