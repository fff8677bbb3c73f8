"""What each rewriting of a graph gains, program by program, from the graph as OpenVINO reads it on.

All variants of a program run in turn in one process, where they differ by nothing else; and since a model keeps to the
speed that its memory gives it, they are compiled anew several times, in another order each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.backends._contract import label, reported
from calotype.backends._external_data import check
from calotype.backends.openvino import REWRITINGS, Compiler
from calotype.bundle import Bundle
from calotype.manifest import ProgramSpec
from calotype_bench.results import Variant
from calotype_export import signatures

UNCHANGED = "as OpenVINO reads it"
WARM_UPS = 1  # after the run whose outputs are compared
Progress = Callable[[int, int, str], None]
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """`openings` times every variant is compiled, and run `runs` times in turn after two to warm up."""

    runs: int
    openings: int
    threads: int | None


@dataclass(frozen=True, slots=True)
class _Ran:
    outputs: list[NDArray[Any]]
    seconds: tuple[float, ...]


def measure(bundle: Bundle, plan: Plan, progress: Progress) -> dict[str, tuple[Variant, ...]]:
    """The variants of every program for one picture, in the order of `REWRITINGS`. BundleError, BackendError."""
    specs = [spec for spec in bundle.manifest.programs if spec.batch == 1]
    found: dict[str, tuple[Variant, ...]] = {}
    for number, spec in enumerate(specs):
        progress(number, len(specs), spec.name)
        check(bundle.root, spec)
        with reported(f"{label(spec)}: OpenVINO cannot run {spec.files[0].path}"):
            found[spec.name] = _variants(bundle.root, spec, plan)
    progress(len(specs), len(specs), "")
    return found


def _variants(root: Path, spec: ProgramSpec, plan: Plan) -> tuple[Variant, ...]:
    compiler, graph = Compiler(plan.threads), root / spec.files[0].path
    places = _places(compiler, graph)
    inputs = signatures.example(spec.inputs, 1)
    openings = [
        _opened(compiler, graph, list(places)[:: -1 if number % 2 else 1], inputs, plan.runs)
        for number in range(plan.openings)
    ]
    outputs = openings[0]
    return tuple(
        Variant(
            change,
            places[change],
            _distance(outputs[change].outputs, outputs[UNCHANGED].outputs),
            tuple(opening[change].seconds for opening in openings),
        )
        for change in places
    )


def _places(compiler: Compiler, graph: Path) -> dict[str, int]:
    """How many places each rewriting changes after those before it; those that change none are no variants."""
    model = compiler.read_as_it_is(graph)
    found = {change: rewrite(model) for change, rewrite in REWRITINGS.items()}
    return {UNCHANGED: 0} | {change: places for change, places in found.items() if places}


def _open(compiler: Compiler, graph: Path, last: str) -> Any:
    """The graph with the rewritings up to `last`."""
    model = compiler.read_as_it_is(graph)
    changes = list(REWRITINGS)
    for change in changes[: changes.index(last) + 1] if last in changes else ():
        REWRITINGS[change](model)
    return compiler.compile(model).create_infer_request()


def _opened(
    compiler: Compiler, graph: Path, order: Sequence[str], inputs: Inputs, runs: int
) -> dict[str, _Ran]:
    """Every variant of `order`, compiled and run in turn; each is the first of a turn as often as the others."""
    requests = [_open(compiler, graph, change) for change in order]
    outputs = [_outputs(request, inputs) for request in requests]
    seconds = np.zeros((WARM_UPS + runs, len(requests)))
    for number, row in enumerate(seconds):
        for place in range(len(requests)):
            which = (place + number) % len(requests)
            begun = time.perf_counter()
            requests[which].infer(inputs)
            row[which] = time.perf_counter() - begun
    return {
        change: _Ran(outputs[which], tuple(seconds[WARM_UPS:, which].tolist()))
        for which, change in enumerate(order)
    }


def _outputs(request: Any, inputs: Inputs) -> list[NDArray[Any]]:
    return [np.array(value, np.float64) for value in request.infer(inputs).values()]


def _distance(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    """Relative L2 of all outputs together."""
    apart = sum(float(np.sum((one - other) ** 2)) for one, other in zip(found, expected, strict=True))
    return float(np.sqrt(apart / sum(float(np.sum(other**2)) for other in expected)))
