"""What it gains to take out of the step what rows have in common: keys and values of the prompt, time projections.

`python benchmarks/hoisting.py BUNDLE [--backend NAME ...] [--runs 10] [-o RESULT.json]` cuts the bundle's step of batch
1 in a temporary folder and runs both, in turn, on the same inputs; the ratio has a bootstrap interval of 95 %.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from calotype import backends
from calotype.backends import BackendOptions, Program
from calotype.bundle import Bundle
from calotype.manifest import FileSpec, ProgramSpec, TensorSpec
from calotype_bench.statistics import ratio
from calotype_export import hoist, signatures


def main() -> None:
    """Measure every backend, print a line each, and write the figures where -o says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", action="append", metavar="NAME", help="(default: onnxruntime, openvino)")
    parser.add_argument("--runs", type=int, default=10, help="of each, in turn (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, metavar="RESULT.json")
    options = parser.parse_args()
    spec = Bundle.open(options.bundle).program("unet_step")
    with tempfile.TemporaryDirectory(prefix="hoisting-") as folder:
        parts = write_parts(options.bundle, spec, Path(folder))
        results = {
            name: measure(name, (options.bundle, spec), (Path(folder), parts), options.runs)
            for name in options.backend or ("onnxruntime", "openvino")
        }
    for name, found in results.items():
        low, high = found["interval"]
        print(
            f"{name}: whole {found['whole']:.4f} s, without what rows have in common {found['step']:.4f} s, "
            f"ratio {found['ratio']:.4f} ({low:.4f} to {high:.4f}); a prompt {found['prompt']:.4f} s, "
            f"a row {found['row']:.4f} s; relative L2 {found['distance']:.1e}"
        )
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def write_parts(root: Path, spec: ProgramSpec, folder: Path) -> Mapping[str, ProgramSpec]:
    """Cut the step of the bundle at `root`; the parts as programs below `folder`."""
    cut = hoist.split(ir.load(root / spec.files[0].path))
    found: dict[str, ProgramSpec] = {}
    for name, model in (("prompt", cut.prompt), ("row", cut.row), ("step", cut.step)):
        ir.save(model, folder / f"{name}.onnx", external_data=f"{name}.data")
        files = tuple(FileSpec(f"{name}.{kind}", 0, "") for kind in ("onnx", "data"))
        inputs, outputs = (tensors(values) for values in (model.graph.inputs, model.graph.outputs))
        found[name] = ProgramSpec(name, spec.batch, spec.precision, inputs, outputs, files)
    return found


def tensors(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    """The named tensors of a graph's side."""
    found: list[TensorSpec] = []
    for value in values:
        assert value.dtype is not None
        assert value.shape is not None
        found.append(TensorSpec(str(value.name), str(value.dtype.numpy()), tuple(value.shape.numpy())))
    return tuple(found)


Source = tuple[Path, ProgramSpec]


def measure(
    backend: str, whole: Source, cut: tuple[Path, Mapping[str, ProgramSpec]], runs: int
) -> dict[str, Any]:
    """Seconds of the whole step and of the parts: medians of `runs` runs in turn, after one of each to warm up."""
    (one,) = backends.load(backend, whole[0], [whole[1]], BackendOptions())
    loaded = backends.load(backend, cut[0], list(cut[1].values()), BackendOptions())
    parts = {program.spec.name: program for program in loaded}
    given = signatures.example(whole[1].inputs, 0)
    common = {name: _run(parts[name], given) for name in ("prompt", "row")}
    inputs = {name: dict(outputs[0]) for name, outputs in common.items()}
    everything = given | inputs["prompt"] | inputs["row"]
    expected, found = _run(one, given)[0]["next_state"], _run(parts["step"], everything)[0]["next_state"]
    distance = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    pairs = np.array([(_run(one, given)[1], _run(parts["step"], everything)[1]) for _ in range(runs)])
    seconds = {name: float(np.median([_run(parts[name], given)[1] for _ in range(3)])) for name in common}
    before, after = np.median(pairs, axis=0)
    times = ratio(pairs[:, 1], pairs[:, 0])
    return {
        "whole": before, "step": after, "ratio": times.value, "interval": (times.low, times.high), **seconds,
        "distance": distance, "samples": pairs.tolist(),
    }  # fmt: skip


def _run(program: Program, given: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    program.bind({tensor.name: given[tensor.name] for tensor in program.spec.inputs})
    begun = time.perf_counter()
    outputs = program.run({})
    seconds = time.perf_counter() - begun
    return {name: value.copy() for name, value in outputs.items()}, seconds


if __name__ == "__main__":
    main()
