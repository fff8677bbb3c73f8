"""What each rewriting of a graph gains, program by program, from the graph as OpenVINO reads it on.

All variants of a program run in turn in one process, where they differ by nothing else; and since a model keeps to the
speed that its memory gives it, they are compiled anew several times, in another order each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
from calotype_export.gates import distance
from calotype_export.timed_run import turns, wall_seconds

UNCHANGED = "as OpenVINO reads it"
Progress = Callable[[int, int, str], None]
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """`openings` times every variant is compiled, and run `runs` times in turn, warmed up."""

    runs: int
    openings: int
    threads: int | None


@dataclass(frozen=True, slots=True)
class _Ran:
    outputs: list[NDArray[np.float32]]
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
        _opened(compiler, graph, list(places), inputs, plan.runs, number) for number in range(plan.openings)
    ]
    outputs = {change: ran.outputs for change, ran in openings[0].items()}
    return tuple(
        Variant(
            change,
            places[change],
            distance(outputs[change], outputs[UNCHANGED]).relative_l2,
            tuple(opening[change].seconds for opening in openings),
        )
        for change in places
    )


def _places(compiler: Compiler, graph: Path) -> dict[str, int]:
    """How many places each rewriting changes after those before it; those that change none are no variants."""
    model = compiler.read_as_it_is(graph)
    found = {change: rewrite(model) for change, rewrite in REWRITINGS.items()}
    return {UNCHANGED: 0} | {change: places for change, places in found.items() if places}


def _open(compiler: Compiler, graph: Path, changes: Sequence[str]) -> Any:
    """The graph with the rewritings `changes`."""
    model = compiler.read_as_it_is(graph)
    for change in changes:
        REWRITINGS[change](model)
    return compiler.compile(model).create_infer_request()


def _opened(
    compiler: Compiler, graph: Path, variants: Sequence[str], inputs: Inputs, runs: int, number: int
) -> dict[str, _Ran]:
    """Every variant, compiled, in the other order every second time, and run in turn."""
    order = range(len(variants))[:: -1 if number % 2 else 1]
    requests = [_open(compiler, graph, variants[1 : last + 1]) for last in order]
    outputs = [_outputs(request, inputs) for request in requests]
    seconds = turns(
        [partial(wall_seconds, partial(request.infer, inputs)) for request in requests], runs
    ).T.tolist()
    return {variants[which]: _Ran(outputs[place], tuple(seconds[place])) for place, which in enumerate(order)}


def _outputs(request: Any, inputs: Inputs) -> list[NDArray[np.float32]]:
    return [np.array(value) for value in request.infer(inputs).values()]
