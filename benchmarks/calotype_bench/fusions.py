"""What ONNX Runtime's own transformer optimiser gains on the step, or why it does not run here.

`python -m calotype_bench.fusions BUNDLE [--device cpu] [--runs 10] [-o RESULT.json]`. The optimiser comes with ONNX
Runtime (`onnxruntime.transformers`); some of what it makes runs on its CUDA provider alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from calotype import backends
from calotype.backends import BackendOptions
from calotype.bundle import Bundle
from calotype_bench import paired
from calotype_bench.paired import Figures
from calotype_export import bundle_files, signatures


def main() -> None:
    """Measure, print a line, and write the figures where -o says."""
    options = paired.parser(__doc__).parse_args()
    found = measure(options.bundle, options.device, options.runs)
    print(paired.told("onnxruntime.transformers", found), f"fused: {found['fused']}")
    paired.write(options.output, found)


def measure(root: Path, device: str, runs: int) -> Figures:
    """The bundle's step for one picture as it is, and optimised, in turn; `fused` counts the operators that are new."""
    optimizer: Any = importlib.import_module("onnxruntime.transformers.optimizer")
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    bundle, options = Bundle.open(root), BackendOptions(device)
    spec = bundle.program("unet_step")
    with tempfile.TemporaryDirectory(prefix="fusions-") as name:
        folder = Path(name)
        graph = root / spec.files[0].path
        model = optimizer.optimize_model(str(graph), "unet", opt_level=0, use_gpu=options.kind == "cuda")
        model.save_model_to_file(str(folder / "step.onnx"), use_external_data_format=True)
        files = tuple(bundle_files.describe(path, folder) for path in sorted(folder.iterdir()))
        fused = dataclasses.replace(spec, files=files, parameters=())
        (one,) = backends.load("onnxruntime", root, [spec], options)
        (other,) = backends.load("onnxruntime", folder, [fused], options)
        given = signatures.example(spec.inputs, 0)
        found = paired.compare(one, other, (given, given), runs)
        found["fused"] = dict(_operators(folder / "step.onnx") - _operators(graph))
        for program in (one, other):
            program.close()
    return found


def _operators(graph: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)


if __name__ == "__main__":
    main()
