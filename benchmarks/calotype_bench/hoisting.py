"""What it gains to take out of the step what rows have in common: keys and values of the prompt, time projections.

`python -m calotype_bench.hoisting BUNDLE [--backend NAME ...] [--device cpu] [--runs 10] [-o RESULT.json]` cuts the
bundle's step of batch 1 in a temporary folder and runs both, in turn, on the same inputs; the ratio has a bootstrap
interval of 95 %. On a GPU the bundle has to be compiled already where the backend runs nothing else.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx_ir as ir

from calotype import backends
from calotype.backends import BackendOptions
from calotype.bundle import MANIFEST, Bundle
from calotype.manifest import FileSpec, ProgramSpec, TensorSpec
from calotype_bench import paired
from calotype_bench.paired import Figures
from calotype_export import bundle_files, cuda_graph, hoist, signatures
from calotype_export.compile import compile_bundle
from calotype_export.tensorrt_builder import BuilderOptions

PARTS = ("prompt", "row", "step")
_RUNS = 3  # of what is cut off


def main() -> None:
    """Measure every backend, print a line each, and write the figures where -o says."""
    parser = paired.parser(__doc__)
    parser.add_argument("--backend", action="append", metavar="NAME", help="(default: onnxruntime, openvino)")
    options = parser.parse_args()
    names = options.backend or ("onnxruntime", "openvino")
    results = measure(options.bundle, names, options.device, options.runs)
    for name, found in results.items():
        print(told(name, found))
    paired.write(options.output, {"backends": results})


def measure(root: Path, names: Sequence[str], device: str, runs: int) -> dict[str, Figures]:
    """The figures of the bundle at `root` on every backend of `names`."""
    whole = Bundle.open(root)
    with tempfile.TemporaryDirectory(prefix="hoisting-") as folder:
        cut = write_parts(whole, Path(folder))
        options = {
            name: BackendOptions(device, compiled=name in backends.COMPILED_ONLY) for name in names
        }  # what is cut and what is not, both as they were exported
        return {name: _measure(name, whole, cut, options[name], runs) for name in names}


def told(backend: str, found: Figures) -> str:
    """The figures of one backend in a line."""
    line = paired.told(f"{backend}, without what rows have in common", found)
    return f"{line}; a prompt {found['prompt']:.4f} s, a row {found['row']:.4f} s"


def write_parts(whole: Bundle, folder: Path) -> Bundle:
    """Cut the bundle's step for one picture; the three parts as a bundle in `folder`."""
    spec = whole.program("unet_step")
    cut = hoist.split(ir.load(whole.root / spec.files[0].path))
    found: list[ProgramSpec] = []
    for name, model in zip(PARTS, (cut.prompt, cut.row, cut.step), strict=True):
        files = _save(model, folder, name)
        inputs, outputs = (tensors(values) for values in (model.graph.inputs, model.graph.outputs))
        on_gpu = _save(model, folder, f"{name}.cuda") if cuda_graph.adapt(model) else ()
        described = ProgramSpec(name, spec.batch, spec.precision, inputs, outputs, files, cuda_files=on_gpu)
        found.append(described)
    parts = dataclasses.replace(whole.manifest, programs=tuple(found), files=())
    (folder / MANIFEST).write_text(parts.to_json(), "utf-8")
    return Bundle.open(folder)


def _save(model: ir.Model, folder: Path, name: str) -> tuple[FileSpec, ...]:
    ir.save(model, folder / f"{name}.onnx", external_data=f"{name}.data")
    paths = [folder / f"{name}.{kind}" for kind in ("onnx", "data")]
    return tuple(bundle_files.describe(path, folder) for path in paths if path.exists())


def tensors(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    """The named tensors of a graph's side."""
    found: list[TensorSpec] = []
    for value in values:
        assert value.dtype is not None
        assert value.shape is not None
        found.append(TensorSpec(str(value.name), str(value.dtype.numpy()), tuple(value.shape.numpy())))
    return tuple(found)


def _measure(backend: str, whole: Bundle, cut: Bundle, options: BackendOptions, runs: int) -> Figures:
    """The whole step and the rest of it in turn; `prompt` and `row` are the median seconds of what was cut off."""
    if backend in backends.COMPILED_ONLY:
        compile_bundle(cut.root, backend, BuilderOptions())
    spec = whole.program("unet_step")
    given = signatures.example(spec.inputs, 0)
    with ExitStack() as opened:
        (one,) = paired.loaded(opened, backend, whole.root, [spec], options)
        loaded = paired.loaded(opened, backend, cut.root, cut.manifest.programs, options)
        parts = {program.spec.name: program for program in loaded}
        common = {name: [paired.run(parts[name], given) for _ in range(_RUNS)] for name in ("prompt", "row")}
        everything = given | common["prompt"][0][0] | common["row"][0][0]
        found = paired.compare(one, parts["step"], (given, everything), runs)
    return found | {name: float(np.median([seconds for _, seconds in each])) for name, each in common.items()}


if __name__ == "__main__":
    sys.exit(paired.carry_out(main))
