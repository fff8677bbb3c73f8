"""Two programs that compute the same, run in turn: how many times as long the second takes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from calotype import backends, files
from calotype.backends import BackendOptions, Program
from calotype.errors import CalotypeError
from calotype.manifest import ProgramSpec
from calotype_bench import figure_tables, machine, results
from calotype_bench.statistics import ratio
from calotype_export import arguments
from calotype_export.gates import distance
from calotype_export.timed_run import Given, in_turn, run

Figures = dict[str, Any]


def command(description: str | None) -> argparse.ArgumentParser:
    """The options of a command that measures a bundle, and writes its figures with `write`."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("bundle", type=Path)
    found.add_argument("-o", "--output", type=_writable, metavar="RESULT.json")
    return found


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of a command that compares two programs."""
    found = command(description)
    found.add_argument("--device", default="cpu", metavar="cuda", help="(default: %(default)s)")
    found.add_argument(
        "--runs", type=arguments.positive, default=10, help="of each, in turn (default: %(default)s)"
    )
    return found


def carry_out(main: Callable[[], None]) -> int:
    """Run a command's `main`; the exit status: 0, or 1 with a line that says why it failed."""
    try:
        main()
    except (CalotypeError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    return 0


def _writable(text: str) -> Path:
    try:
        results.check_writable(Path(text))
    except CalotypeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def loaded(
    opened: ExitStack, backend: str, root: Path, specs: Sequence[ProgramSpec], options: BackendOptions
) -> tuple[Program, ...]:
    """Load programs, which are closed with `opened`."""
    programs = backends.load(backend, root, specs, options)
    for program in programs:
        opened.callback(program.close)
    return programs


def write(path: Path | None, figures: Figures) -> None:
    """Write the figures, and where they were taken, to `path` if there is one."""
    if path is not None:
        script = Path(sys.argv[0])
        here = script.parent.name == Path(__file__).parent.name
        called = ["-m", f"{script.parent.name}.{script.stem}"] if here else [f"benchmarks/{script.name}"]
        found = {"command": ["python", *called, *sys.argv[1:]], "machine": machine.describe(), **figures}
        with files.placed(path, "the figures") as file:
            file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def compare(one: Program, other: Program, given: tuple[Given, Given], runs: int) -> Figures:
    """Median seconds of `runs` runs of each in turn, their ratio with its bootstrap interval, and the samples.

    `given` are the inputs of each. `distance` is the relative L2 of `next_state`.
    """
    expected, found = (
        run(program, inputs)[0]["next_state"] for program, inputs in zip((one, other), given, strict=True)
    )
    pairs = in_turn((one, other), given, runs)
    before, after = np.median(pairs, axis=0)
    times = ratio(pairs[:, 1], pairs[:, 0])
    return {
        "before": float(before), "after": float(after), "ratio": times.value, "interval": (times.low, times.high),
        "distance": distance([found], [expected]).relative_l2, "samples": pairs.tolist(),
    }  # fmt: skip


def told(what: str, found: Figures) -> str:
    """The figures in a line."""
    return (
        f"{what}: {found['before']:.4f} s before, {found['after']:.4f} s after, "
        f"ratio {figure_tables.ratio(found)}, relative L2 {found['distance']:.1e}"
    )
