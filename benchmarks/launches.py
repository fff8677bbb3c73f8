"""What ONNX Runtime's CUDA provider launches for one run of each full-size program, on a machine without a GPU.

`python benchmarks/launches.py [NAME ...] [--precision fp16] [-o RESULT.json]` writes random-weight checkpoints of the
public architectures, traces them, and runs every program on ONNX Runtime's own provider over a stand-in for CUDA's
libraries, which takes down every call and computes nothing: as exported, and as its transformer optimiser makes it,
with settings of the provider's. Launches are counted. What they take is not known.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from calotype_bench import machine
from calotype_export import build, synthetic
from calotype_export.build import BuildOptions
from calotype_export.console import reporter, silence_libraries

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests' stand-in

from tests.standin import cuda_libraries
from tests.standin.real_provider import PROVIDER, call

NAMES = ("sd15", "sd21-base")
# Kind of launch -> what its function or kernel is called. The first that fits counts.
KINDS: Final[Mapping[str, str]] = {
    "products": "cublas.*([gG]emm|Matmul$)",
    "convolutions": "cudnnBackendExecute|cudnnConvolutionForward",
    "biases of convolutions": "cudnnAddTensor",
    "attention": "flash_fwd|attention_kernel|UnfusedSoftmax|ConvertBoolMask",
    "transposes": "[Tt]ranspose|cublas.geam",
    "norms and sums": "LayerNorm|[gG]roupNorm|reduce_matrix|cudnnReduceTensor",
    "biases of products": "BroadcastBias|AddBias",
    "copies and fills": "copy |cudaMemset",
    "other kernels": "^_Z|^a kernel without a name",
}
COLUMNS = "{:10} {:14} {:22} {:28} {:>8}  {}"


def main() -> None:
    """Count every model that is named, print a table, and write the figures where -o says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", default=NAMES, metavar="NAME", help=f"(default: {' '.join(NAMES)})"
    )
    parser.add_argument("--precision", default="fp16", choices=("fp32", "fp16"), help="(default: fp16)")
    parser.add_argument("-o", "--output", type=Path, metavar="RESULT.json")
    options = parser.parse_args()
    silence_libraries()
    print(COLUMNS.format("model", "program", "graph", "settings", "launches", "by kind"))
    results = {name: measure(name, options.precision) for name in options.names}
    if options.output is not None:
        content = {"command": ["make", "launches"], "machine": machine.describe(), "models": results}
        options.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def measure(name: str, precision: str) -> list[dict[str, Any]]:
    """Trace the model `name` in a temporary folder, and count what each program launches."""
    progress = reporter(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="launches-") as folder:
        checkpoint = synthetic.write(name, Path(folder) / "checkpoint", dtype=precision, progress=progress)
        bundle, made, libraries = (Path(folder) / part for part in ("bundle", "made", "libraries"))
        for path in (bundle, made, libraries):
            path.mkdir()
        options = BuildOptions(checkpoint, bundle, precision=precision, vae_precision=precision)
        build.draft(build.opened(options, progress), options, bundle, progress)
        cuda_libraries.build(PROVIDER, libraries)
        found = call(libraries, "launches", str(bundle), str(made))
    for one in found:
        kinds = counted(one.pop("calls"))
        one |= {"launches": sum(kinds.values()), "kinds": kinds}
        said = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        row = (name, one["program"], one["graph"], " ".join(one["settings"]) or "-", one["launches"], said)
        print(COLUMNS.format(*row), flush=True)
    return found


def counted(calls: Mapping[str, int]) -> dict[str, int]:
    """How many launches of each kind there are; other calls are none."""
    found = Counter[str]()
    for name, count in calls.items():
        kind = next((kind for kind, called in KINDS.items() if re.search(called, name)), None)
        if kind is not None:
            found[kind] += count
    return {kind: found[kind] for kind in KINDS if found[kind]}


if __name__ == "__main__":
    main()
