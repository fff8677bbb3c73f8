"""Rows as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from calotype_bench.latency import Row, compare
from calotype_bench.rates import Rates

PARTS = ("text_encoder", "unet_step", "vae_decoder", "safety_checker", "runtime")
_COLUMNS = "{:24} {:>5} {:>9} {:>9} {:>9} {:>7} {:>24} {:>9}"


def floors(rows: Sequence[Row], least: Mapping[str, float], rates: Rates) -> str:
    """How much of each part's time the machine's own rate explains: 100 % would be nothing but multiplying."""
    lines = [
        f"percent of the floor: products at {rates.product / 1e12:.2f} TFLOP/s, convolutions at "
        f"{rates.convolution / 1e12:.2f}, as measured in this run"
    ]
    names = [*(name for name in PARTS if name in least), "total"]
    lines.append("engine".ljust(24) + "".join(f"{name:>16}" for name in names))
    lines.append("floor, seconds".ljust(24) + "".join(f"{least[name]:>16.4f}" for name in names))
    for row in (each for each in rows if each.samples):
        found = {name: part.median for name in names if (part := row.part(name))} | {
            "total": row.summary().median
        }
        shares = (f"{least[name] / found[name]:>16.1%}" if name in found else f"{'-':>16}" for name in names)
        lines.append(row.engine.label.ljust(24) + "".join(shares))
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """Wall seconds of a picture, with how many times as long as the first row, and how far the latents are from its."""
    ratios = compare(rows)
    lines = [
        _COLUMNS.format(
            "engine", "runs", "min s", "median s", "p90 s", "spread", "times the first (95 %)", "latents"
        )
    ]
    for index, row in enumerate(rows):
        if not row.samples:
            lines.append(f"{row.engine.label:24} could not be measured: {row.failure}")
            continue
        found = row.summary()
        times = "1"
        if index in ratios:
            times = f"{ratios[index].value:.3f} ({ratios[index].low:.3f} to {ratios[index].high:.3f})"
        apart = "-" if row.distance is None else f"{row.distance:.1e}"
        figures = (f"{found.minimum:.3f}", f"{found.median:.3f}", f"{found.p90:.3f}", f"{found.spread:.1%}")
        lines.append(_COLUMNS.format(row.engine.label, found.runs, *figures, times, apart))
    return "\n".join([*lines, "", *_parts(rows), "", *_starts(rows)])


def _parts(rows: Sequence[Row]) -> list[str]:
    lines = ["median seconds of the parts".ljust(24) + "".join(f"{name:>16}" for name in PARTS)]
    for row in rows:
        found = [row.part(name) for name in PARTS] if row.samples else []
        if any(found):
            figures = "".join(f"{'-' if part is None else format(part.median, '.4f'):>16}" for part in found)
            lines.append(row.engine.label.ljust(24) + figures)
    return lines


def _starts(rows: Sequence[Row]) -> list[str]:
    lines = [
        "cold start: seconds to import, to load, of the first picture; peak memory of the process, of the GPU"
    ]
    for row in rows:
        if row.ready is None or row.first is None:
            continue
        last = row.samples[-1] if row.samples else row.first
        memory = f"{last.resident_bytes / 2**20:.0f} MiB, {last.device_bytes / 2**20:.0f} MiB"
        seconds = (row.ready.import_seconds, row.ready.load_seconds, row.first.seconds)
        lines.append(f"{row.engine.label:24} " + ", ".join(f"{each:.2f}" for each in seconds) + f"; {memory}")
    return lines
