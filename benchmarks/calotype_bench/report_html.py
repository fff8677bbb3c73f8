"""Results as one page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from calotype_bench import operators, pictures, waterfall
from calotype_bench.figures import (
    APART,
    BESIDE,
    PARTS,
    distance,
    fidelities,
    least,
    profiles,
    share,
    spread,
    times,
    told_distance,
    untouched,
)
from calotype_bench.measurement import Measurement, Row, beside_best, compare
from calotype_bench.results import Comparison, Latency, Result, command_line

View = dict[str, Any]
# One colour for each part of a picture and each kind of operator, the same in every bar
_PALETTE = ("#8a6fb0", "#2f6f9f", "#4c9a6a", "#c9a23f", "#c4572e", "#5bb0b5", "#b0568c", "#7d8894", "#8c6d4f")
COLOURS = {name: _PALETTE[index] for names in (PARTS, operators.NAMES) for index, name in enumerate(names)}


def page(found: Sequence[Result]) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["seconds"] = _seconds
    sections = [_section(each) for each in found]
    return environment.get_template("report.html").render(sections=sections, colours=COLOURS)


def _section(result: Result) -> View:
    if isinstance(result, Latency):
        return _latency(result)
    if isinstance(result, Comparison):
        return _comparison(result)
    steps = waterfall.of_techniques(result)
    return {"kind": "techniques", **_origin(result), "programs": steps, "untouched": untouched(result)}


def _latency(result: Latency) -> View:
    measured = [
        _measurement(measurement, floors, result.alone)
        for measurement, floors in zip(result.measurements, result.floors, strict=True)
    ]
    return {
        "kind": "latency",
        **_origin(result),
        "timed": result.timed,
        "alone": result.alone,
        "warm_up": result.warm_up,
        "measurements": measured,
        "profiles": profiles(result),
        "rates": {
            precision: (rate.product / 1e12, rate.convolution / 1e12)
            for precision, rate in result.rates.items()
        },
        "curves": [
            curve
            for curve in (_curve(result, "steps", "batch"), _curve(result, "batch", "steps"))
            if curve is not None
        ],
    }


def _measurement(measurement: Measurement, floors: Any, alone: bool) -> View:
    rows, ratios = measurement.rows, compare(measurement.rows)
    longest = max((row.interval().high for row in rows if row.samples), default=1.0)
    bars: list[View] = []
    for index, row in enumerate(rows):
        if row.failure:
            bars.append({"label": row.engine.label, "failure": row.failure})
        if row.samples:
            bars.append(_bar(row, floors, longest) | {"times": times(rows, ratios, index)})
    near = {row.engine.label: told_distance(row.fidelity) for row in rows}
    beside = [
        (label, near[label], [(BESIDE[part], found) for part, found in parts.items()])
        for label, parts in beside_best(rows).items()
    ]
    return {
        "job": measurement.job, "task": measurement.task, "order": measurement.order(alone),
        "reference": measurement.beside,
        "evaluations": measurement.evaluations(), "bars": bars, "waterfall": waterfall.of_rows(rows),
        "beside": beside,
    }  # fmt: skip


def _bar(row: Row, floors: Mapping[str, Mapping[str, float]], longest: float) -> View:
    """An engine's median as a share of the `longest`, with what else is known of it."""
    shortest = least(row, floors)
    found, interval, last = row.summary(), row.interval(), row.samples[-1]
    return {
        "label": row.engine.label,
        "failure": "",
        "ours": row.engine.name == "calotype",
        "summary": found,
        "width": 100 * found.median / longest,
        "from": 100 * interval.low / longest,
        "to": 100 * interval.high / longest,
        "fidelity": distance(row.fidelity),
        "spread": spread(found),
        "floor": share(shortest, found.median),
        "floor_at": None if shortest is None or shortest > longest else 100 * shortest / longest,
        "stages": _stages(row, floors.get(row.engine.dtype, {})),
        "memory": (last.resident_bytes / 2**20, last.device_bytes / 2**20),
        "joules": row.joules(),
        "clock": last.clock_mhz,
        "cost": last.measuring_seconds / last.seconds,
        "start": row.start(),
        "first_evaluations": row.first and row.first.evaluations,
    }


def _stages(row: Row, floors: Mapping[str, float]) -> list[View]:
    """Of each part that the engine told: its summary, share of the sum of all, and how much its floor explains."""
    found = [(name, part) for name in PARTS if (part := row.part(name))]
    total = sum(part.median for _, part in found)
    return [
        {
            "name": name, "summary": part, "spread": spread(part), "share": 100 * part.median / total,
            "floor": share(floors.get(name), part.median),
        }
        for name, part in found
    ]  # fmt: skip


def _curve(result: Latency, along: str, fixed: str) -> View | None:
    """Median seconds of each engine along steps or batch, where there are several, at the smallest of the other; of
    those that drew the reference's picture, as far as that is known.
    """
    smallest = min(getattr(each.job, fixed) for each in result.measurements)
    chosen = {
        getattr(each.job, along): each for each in result.measurements if getattr(each.job, fixed) == smallest
    }
    if len(chosen) < 2:
        return None
    lines: dict[str, list[tuple[float, float]]] = {}
    near: dict[str, list[str]] = {}
    apart: list[str] = []
    for mark, measurement in sorted(chosen.items()):
        for row in measurement.rows:
            if row.samples and row.fidelity is not None and not row.faithful:
                apart.append(f"{row.engine.label} at {mark}")
            elif row.samples:
                lines.setdefault(row.engine.label, []).append((float(mark), row.summary().median))
                near.setdefault(row.engine.label, []).append(told_distance(row.fidelity))
    distances = {label: " / ".join(dict.fromkeys(told)) for label, told in near.items()}
    references = dict.fromkeys(each.beside for each in chosen.values())
    return {
        "along": along, "fixed": fixed, "at": smallest, "svg": pictures.curves(lines, along),
        "near": distances, "apart": apart, "reference": " / ".join(references),
    }  # fmt: skip


def _comparison(result: Comparison) -> View:
    return {
        "kind": "comparison",
        **_origin(result),
        "reference": result.reference,
        "heads": APART,
        "rows": fidelities(result),
        "failures": result.failures,
        "pairs": [
            {
                "pair": pair,
                "expected": result.expected[pair.request],
                "map": pictures.difference(result.expected[pair.request], pair.found),
                "times": pictures.AMPLIFIED,
            }
            for pair in result.pairs
            if pair.found
        ],
    }


def _origin(result: Result) -> View:
    return {
        "title": result.title,
        "command": command_line(result),
        "machine": result.machine,
        "gpu": _gpu(result.machine.get("gpu")),
        "memory": result.machine.get("memory_bytes", 0) / 2**30,
        "bundles": result.bundles,
        "versions": _versions(result) if isinstance(result, Latency) else {},
    }


def _gpu(found: Any) -> str:
    """What is known of a card; or why they are not known."""
    if not isinstance(found, Mapping):
        return str(found or "")
    return f"{found['gpu']}, compute capability {found['compute_capability']}, CUDA driver {found['driver']}"


def _versions(result: Latency) -> dict[str, str]:
    found: dict[str, str] = {}
    for measurement in result.measurements:
        for row in measurement.rows:
            if row.ready is not None:
                found[row.engine.label] = ", ".join(
                    f"{name} {version}" for name, version in row.ready.versions.items()
                )
    return found


def _seconds(value: float) -> str:
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"
