"""What ONNX Runtime's CUDA provider launches for one run of each full-size program, on a machine without a GPU.

`python benchmarks/launches.py [NAME ...] [--precision fp16] [-o RESULT.json]` writes random-weight checkpoints of the
public architectures, traces them, and runs every program on ONNX Runtime's own provider over a stand-in for CUDA's
libraries, which takes down every call and computes nothing: as exported, and as its transformer optimiser makes it,
with settings of the provider's. Launches are counted. What they take is not known.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from calotype_bench import drafts, paired
from calotype_export.console import reporter, silence_libraries

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests' stand-in

from tests.standin import cuda_libraries
from tests.standin.real_provider import PROVIDER, call

NAMES = ("sd15", "sd21-base")
# Kind of launch -> what its function or kernel is called. The first that fits counts.
KINDS: Final[Mapping[str, str]] = {
    "products": "cublas.*([gG]emm|Matmul$)",
    "convolutions and attention of cuDNN": "cudnnBackendExecute|cudnnConvolutionForward",
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
    options = drafts.parser(__doc__, NAMES, ("fp32", "fp16")).parse_args()
    silence_libraries()
    print(COLUMNS.format("model", "program", "graph", "settings", "launches", "by kind"))
    results = {name: measure(name, options.precision) for name in options.names}
    paired.write(options.output, {"command": ["make", "launches"], "models": results})


def measure(name: str, precision: str) -> list[dict[str, Any]]:
    """Trace the model `name` in a temporary folder, and count what each program launches."""
    with tempfile.TemporaryDirectory(prefix="launches-") as folder:
        made, libraries = Path(folder) / "made", Path(folder) / "libraries"
        made.mkdir()
        libraries.mkdir()
        _, bundle = drafts.draft(name, precision, Path(folder), progress=reporter(sys.stderr))
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
