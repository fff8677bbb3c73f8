"""What each change gained, as bars of a page: from the seconds before it to those after."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from calotype_bench.figures import distance, gains
from calotype_bench.measurement import Row, ratio_of
from calotype_bench.results import Techniques

Step = dict[str, Any]


def of_rows(rows: Sequence[Row]) -> list[Step]:
    """From eager diffusers in fp32 to each bundle in turn, on the first backend: each change and what it gained.

    What drew another picture is no step.
    """
    backend = next((row.engine.backend for row in rows if row.engine.name == "calotype"), "")
    ours = [row for row in rows if row.engine.name == "calotype" and row.engine.backend == backend]
    eager = [row for row in rows if (row.engine.name, row.engine.dtype) == ("eager", "fp32")]
    drawn = [row for row in (*eager, *ours) if row.samples and row.faithful]
    longest = max((row.summary().median for row in drawn), default=1.0)
    steps: list[Step] = []
    for before, after in pairwise(drawn):
        gain = ratio_of(before, after)
        old, new = before.summary().median, after.summary().median
        if gain is not None:
            steps.append(
                {
                    "change": _difference(before, after),
                    **_bar_between(old, new, longest),
                    "gain": str(gain),
                    "fidelity": distance(after.fidelity),
                }
            )
    return steps


def of_techniques(result: Techniques) -> dict[str, list[Step]]:
    """By program, each change in turn and what it gained."""
    found = gains(result)
    steps: dict[str, list[Step]] = {}
    for gain in found:
        longest = max(max(each.before, each.after) for each in found if each.program == gain.program)
        bar = _bar_between(gain.before, gain.after, longest)
        steps.setdefault(gain.program, []).append({"gain": gain, **bar})
    return steps


def _bar_between(old: float, new: float, longest: float) -> Step:
    """A bar from `new` to `old` seconds, which is as long as what was saved, and is `lost` where that is negative."""
    shares = {"from": 100 * min(old, new) / longest, "width": 100 * abs(old - new) / longest}
    return {**shares, "lost": new > old, "apart": abs(old - new)}


def _difference(before: Row, after: Row) -> str:
    """The technique that the second row has and the first has not."""
    one, other = before.engine, after.engine
    pieces = [] if one.name == other.name else [f"compiled, on {other.backend}"]
    if one.dtype != other.dtype:
        pieces.append(f"{one.dtype} to {other.dtype}")
    return ", ".join(pieces)
