"""Results where -o says, and beside them what is known so far while a command goes on."""

from __future__ import annotations

import sys
from pathlib import Path

from calotype.errors import OutputError
from calotype_bench import results
from calotype_bench.results import Result


def whole(result: Result, output: Path | None) -> None:
    """Write the result to `output`, if there is one, in place of what `partly` wrote. OutputError."""
    if output is not None:
        results.write(result, output)
        _beside(output).unlink(missing_ok=True)


def partly(result: Result, output: Path | None) -> None:
    """Write what is known so far beside `output` as `*.partial.json`; say so and go on where it cannot be written."""
    try:
        if output is not None:
            results.write(result, _beside(output))
    except OutputError as error:
        print(error.message, file=sys.stderr)


def _beside(output: Path) -> Path:
    return output.with_suffix(".partial.json")
