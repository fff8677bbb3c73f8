"""How much of a run is spent outside the compiled programs: tokenising, tables, noise, the Python loop, copies.

`python benchmarks/overhead.py BUNDLE [--backend NAME] [--steps 20] [--runs 3] [--json]` draws one picture to warm up,
then prints the seconds of each program and of everything else, for the run with the median total.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

from calotype import Pipeline


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="auto", help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="inference steps (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="measured runs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    pipeline = Pipeline.load(options.bundle, options.backend)
    runs = measure(pipeline, options.steps, options.runs)
    middle = statistics.median_low(run["total"] for run in runs)
    run = next(run for run in runs if run["total"] == middle)
    if options.json:
        print(
            json.dumps(
                {"backend": pipeline.backend, "steps": options.steps, "median": run, "runs": runs}, indent=1
            )
        )
        return
    for name, seconds in run.items():
        print(f"{name:16} {seconds:10.3f} s {seconds / run['total']:8.2%}")
    print(f"outside the compiled programs: {run['runtime'] / run['total']:.2%} of a {options.steps}-step run")


def measure(pipeline: Pipeline, steps: int, runs: int) -> list[Mapping[str, float]]:
    """Seconds by program of each of `runs` runs, after one that is not counted."""
    found = [
        pipeline("a lighthouse in a storm", num_inference_steps=steps, seed=run).timings
        for run in range(runs + 1)
    ]
    return list(found[1:])


if __name__ == "__main__":
    main()
