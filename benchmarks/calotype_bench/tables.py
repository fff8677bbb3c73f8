"""Tables in Markdown files, made from results: what stands between two comments is written anew.

<!-- table latency+beside+operators results/demo.json -->
...
<!-- end -->

A `summary` is one table of several results: <!-- table summary results/demo.json results/sd15.json -->. An `agreement`
is of pairs of them: two runs of one comparison, two of another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from calotype.errors import RequestError
from calotype_bench import figure_tables, results, several_tables
from calotype_bench.figures import (
    APART,
    BESIDE,
    besides,
    cold_starts,
    counted,
    distance,
    fidelities,
    gains,
    least,
    profiles,
    share,
    spread,
    times,
    told_parts,
)
from calotype_bench.markdown import heads, line
from calotype_bench.measurement import Measurement, beside_best, compare
from calotype_bench.results import Comparison, Latency, Result, Techniques

_OF_LATENCY = ("latency", "beside", "starts", "operators")  # those that can be asked for together
_KINDS = (*_OF_LATENCY, "summary", "agreement", "fidelity", "techniques", *figure_tables.KINDS)
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
        return several_tables.summary(paths)
    if kinds == ["agreement"]:
        return several_tables.agreements(paths)
    if len(paths) > 1:
        raise RequestError(f"{paths[1]}: a table `{'+'.join(kinds)}` is of one result, not of {len(paths)}")
    (path,) = paths
    if len(kinds) == 1 and kinds[0] in figure_tables.KINDS:
        (names, lines), origin = figure_tables.read(kinds[0], path)
        return "\n".join([*heads(*names), *(line(*cells) for cells in lines), "", origin, ""])
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
    # what a result was called when it was measured may be another's name now
    called = "" if path.name in {Path(word).name for word in result.command} else f" (kept as `{path.name}`)"
    return "\n".join([*blocks, f"`{results.command_line(result)}`{called}, on {_where(result)}", ""])


def _of_latency(result: Latency, kinds: Sequence[str]) -> list[str]:
    blocks: list[str] = []
    for index, measurement in enumerate(result.measurements):
        if {"latency", "beside"} & set(kinds):
            blocks.append(_caption(measurement, result.alone) + "\n")
        if "latency" in kinds:
            blocks.append(_latency(result, index))
        if "beside" in kinds:
            blocks.append(_beside(measurement))
    if "starts" in kinds:
        blocks.append(_starts(result.measurements[0]))
    return [*blocks, *([_operators(result)] if "operators" in kinds else [])]


def _latency(result: Latency, index: int) -> str:
    measurement, floors = result.measurements[index], result.floors[index]
    ratios = compare(measurement.rows)
    lines = [
        *heads(
            "engine", "fastest s", "median s", "p90 s", "spread", "times the first (95 %)", "a UNet step s", "VAE s",
            f"latents from {measurement.beside}", "PSNR dB", "percent of the floor",
        ),
    ]  # fmt: skip
    for number, row in enumerate(measurement.rows):
        if row.failure:
            lines.append(line(row.engine.label, f"could not be measured: {row.failure}", *[""] * 9))
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
        lines.append(line(row.engine.label, *cells))
    return "\n".join([*lines, ""])


def _beside(measurement: Measurement) -> str:
    beside = beside_best(measurement.rows)
    told = told_parts([beside])
    near = (f"latents from {measurement.beside}", "PSNR dB")
    lines = heads("ours, over the fastest other", *(BESIDE[part] for part in told), *near)
    return "\n".join([*lines, *(line(*cells) for cells in besides(measurement, beside, told)), ""])


def _starts(measurement: Measurement) -> str:
    """Of a run's first job: what a user waits for, and what the process holds."""
    lines = [
        *heads(
            "engine, from a cold start", "import s", "load s", "first picture s", "of UNet evaluations",
            "peak memory GiB",
        )
    ]  # fmt: skip
    for label, start, first, last in cold_starts(measurement.rows):
        seconds = (_figure(each) for each in (start.imported, start.loaded, start.first))
        lines.append(line(label, *seconds, str(first.evaluations), f"{last.resident_bytes / 2**30:.1f}"))
    return "\n".join([*lines, ""])


def _caption(measurement: Measurement, alone: bool) -> str:
    job = measurement.job
    pictures, steps = counted(job.batch, "picture"), counted(job.steps, "step")
    return (
        f"{pictures} of {job.width}x{job.height}, {_task(measurement)}{steps} of {job.scheduler} "
        f"({counted(measurement.evaluations(), 'evaluation')} of the UNet), "
        f"guidance {job.guidance_scale:g}, {measurement.order(alone)}:"
    )


def _task(measurement: Measurement) -> str:
    """In words, where it is not text-to-image."""
    job = measurement.job
    return f"{measurement.task} at strength {job.strength:g}, " if job.image else ""


def _operators(result: Latency) -> str:
    found = [profile for profile in profiles(result) if not profile.reason]
    kinds = dict.fromkeys(kind for profile in found for kind in profile.seconds)
    lines = [*heads("program", "seconds", "profiled", *kinds)]
    for profile in found:
        measured = "-" if profile.measured is None else _figure(profile.measured)
        shares = (f"{profile.seconds.get(kind, 0.0) / profile.total:.1%}" for kind in kinds)
        lines.append(line(profile.name, measured, _figure(profile.total), *shares))
    return "\n".join([*lines, ""])


def _fidelity(result: Comparison) -> str:
    lines = [*heads("engine", "requests", *APART)]
    lines += [line(label, str(requests), *apart) for label, requests, apart in fidelities(result)]
    lines += [
        line(label, f"could not draw: {failure}", *[""] * 6) for label, failure in result.failures.items()
    ]
    return "\n".join([*lines, ""])


def _techniques(result: Techniques) -> str:
    lines = [*heads("program", "change", "places", "before, ms", "after, ms", "ratio (95 %)", "relative L2")]
    for gain in gains(result):
        seconds = (_figure(1000 * gain.before), _figure(1000 * gain.after))
        distance = f"{gain.distance:.1e}" if gain.distance else "equal"
        lines.append(line(gain.program, gain.change, str(gain.places), *seconds, str(gain.ratio), distance))
    return "\n".join([*lines, ""])


def _where(result: Result) -> str:
    machine = result.machine
    gpu = machine.get("gpu")
    card = f"{gpu['gpu']}, " if isinstance(gpu, Mapping) and gpu["gpu"] else ""
    return f"{card}{machine['processor']}, {machine['cores']} cores, {figure_tables.hour(machine['date'])}"


def _figure(seconds: float) -> str:
    """Three digits that mean something."""
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"
