"""Results as one page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2

from calotype_bench import pictures
from calotype_bench.measurement import Measurement, Row, compare
from calotype_bench.report_text import PARTS, distance, times, worst
from calotype_bench.results import Comparison, Latency, command_line
from calotype_bench.statistics import ratio

View = dict[str, Any]


def page(found: Sequence[Latency | Comparison]) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["seconds"] = _seconds
    sections = [_latency(each) if isinstance(each, Latency) else _comparison(each) for each in found]
    return environment.get_template("report.html").render(sections=sections)


def _latency(result: Latency) -> View:
    measured = [
        _measurement(measurement, floors)
        for measurement, floors in zip(result.measurements, result.floors, strict=True)
    ]
    return {
        "kind": "latency",
        **_origin(result),
        "timed": result.timed,
        "measurements": measured,
        "operators": [
            (f"{label}, {program}", _shares(seconds))
            for label, programs in result.operators.items()
            for program, seconds in programs.items()
            if not isinstance(seconds, str)
        ],
        "unknown": [
            (f"{label}, {program}", seconds)
            for label, programs in result.operators.items()
            for program, seconds in programs.items()
            if isinstance(seconds, str)
        ],
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


def _measurement(measurement: Measurement, floors: Any) -> View:
    rows, ratios = measurement.rows, compare(measurement.rows)
    longest = max((row.summary().p90 for row in rows if row.samples), default=1.0)
    bars: list[View] = []
    for index, row in enumerate(rows):
        if row.failure:
            bars.append({"label": row.engine.label, "failure": row.failure})
        if not row.samples:
            continue
        found = row.summary()
        least = floors.get(row.engine.dtype, {}).get("total")
        bars.append(
            {
                "label": row.engine.label,
                "failure": "",
                "ours": row.engine.name == "calotype",
                "median": found.median,
                "p90": found.p90,
                "width": 100 * found.median / longest,
                "from": 100 * found.minimum / longest,
                "to": 100 * found.p90 / longest,
                "times": times(rows, ratios, index),
                "fidelity": distance(row.fidelity),
                "floor": None if least is None else least / found.median,
                "floor_at": None if least is None else 100 * least / longest,
                "stages": _stages(row),
                "memory": row.samples[-1].resident_bytes / 2**20,
                "joules": row.joules(),
                "start": None if row.ready is None or row.first is None
                else (row.ready.import_seconds, row.ready.load_seconds, row.first.seconds),
            }
        )  # fmt: skip
    return {
        "job": measurement.job, "order": measurement.order(), "reference": measurement.reference,
        "bars": bars, "waterfall": _waterfall(rows),
    }  # fmt: skip


def _stages(row: Row) -> list[tuple[str, float, float]]:
    """Name, median seconds and share of each part that the engine told."""
    found = [(name, part.median) for name in PARTS if (part := row.part(name))]
    total = sum(seconds for _, seconds in found)
    return [(name, seconds, 100 * seconds / total) for name, seconds in found]


def _waterfall(rows: Sequence[Row]) -> list[View]:
    """From eager diffusers in fp32 to each bundle in turn, on the first backend: each change and what it gained."""
    backend = next((row.engine.backend for row in rows if row.engine.name == "calotype"), "")
    ours = [row for row in rows if row.engine.name == "calotype" and row.engine.backend == backend]
    eager = [row for row in rows if (row.engine.name, row.engine.dtype) == ("eager", "fp32")]
    drawn = [row for row in (*eager, *ours) if row.samples]
    if len(drawn) < 2:
        return []
    longest = max(row.summary().median for row in drawn)
    steps: list[View] = []
    for before, after in pairwise(drawn):
        old, new = before.summary().median, after.summary().median
        count = min(len(before.seconds), len(after.seconds))
        gain = ratio(before.seconds[:count], after.seconds[:count])
        steps.append(
            {
                "change": _difference(before, after),
                "from": 100 * min(old, new) / longest,
                "width": 100 * abs(old - new) / longest,
                "saved": old - new,
                "gain": str(gain),
                "fidelity": distance(after.fidelity),
            }
        )
    return steps


def _difference(before: Row, after: Row) -> str:
    """The technique that the second row has and the first has not."""
    one, other = before.engine, after.engine
    pieces = [] if one.name == other.name else [f"compiled, on {other.backend}"]
    if one.dtype != other.dtype:
        pieces.append(f"{one.dtype} to {other.dtype}")
    return ", ".join(pieces)


def _shares(seconds: Any) -> list[tuple[str, float, float]]:
    total = sum(seconds.values())
    return [(kind, spent, 100 * spent / total) for kind, spent in seconds.items() if spent / total >= 0.001]


def _curve(result: Latency, along: str, fixed: str) -> View | None:
    """Median seconds of each engine along steps or batch, where there are several, at the smallest of the other."""
    least = min(getattr(each.job, fixed) for each in result.measurements)
    chosen = [each for each in result.measurements if getattr(each.job, fixed) == least]
    marks = sorted({getattr(each.job, along) for each in chosen})
    if len(marks) < 2:
        return None
    lines: dict[str, list[tuple[float, float]]] = {}
    for measurement in sorted(chosen, key=lambda each: getattr(each.job, along)):
        for row in measurement.rows:
            if row.samples:
                point = (float(getattr(measurement.job, along)), row.summary().median)
                lines.setdefault(row.engine.label, []).append(point)
    return {"along": along, "fixed": fixed, "at": least, "svg": pictures.curves(lines, along)}


def _comparison(result: Comparison) -> View:
    labels = dict.fromkeys(pair.engine for pair in result.pairs)
    of = {label: [pair for pair in result.pairs if pair.engine == label] for label in labels}
    return {
        "kind": "comparison",
        **_origin(result),
        "reference": result.reference,
        "rows": [
            (label, label in result.noise, len(pairs), worst([pair.fidelity for pair in pairs]))
            for label, pairs in of.items()
        ],
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


def _origin(result: Latency | Comparison) -> View:
    return {
        "title": result.title,
        "command": command_line(result),
        "machine": result.machine,
        "bundles": result.bundles,
        "versions": _versions(result) if isinstance(result, Latency) else {},
    }


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
