"""Whether full-size models still compile for NVIDIA GPUs, on a machine without one: TensorRT-RTX, ahead of time.

`python benchmarks/compile_check.py [NAME ...] [--precision fp16] [--compute-capability 8.9] [-o RESULT.json]` writes
random-weight checkpoints of the public architectures, traces them, builds every program's plan, and prints what that
took, what the plan takes, and how many attentions are one kernel. Nothing is run, and nothing compared.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from calotype import compiled
from calotype.compiled import Compiled
from calotype_bench import drafts, paired
from calotype_export.compile import compile_bundle
from calotype_export.console import reporter, silence_libraries
from calotype_export.tensorrt_builder import BuilderOptions

NAMES = ("sd15", "sd21-base", "sd2-inpainting", "sd2-depth")
COLUMNS = "{:16} {:15} {:>5} {:>9} {:>9} {:>12} {:>11}"


def main() -> None:
    """Check every model that is named, print a table, and write the figures where -o says."""
    parser = drafts.parser(__doc__, NAMES, ("fp32", "fp16", "bf16"))
    parser.add_argument("--compute-capability", default="8.9", metavar="8.9", help="(default: %(default)s)")
    options = parser.parse_args()
    silence_libraries()
    print(COLUMNS.format("model", "program", "batch", "build s", "plan MiB", "activation", "attention"))
    results = {name: check(name, options.precision, options.compute_capability) for name in options.names}
    paired.write(options.output, {"command": ["make", "compile-check"], "models": results})


def check(name: str, precision: str, capability: str) -> dict[str, Any]:
    """Trace and compile the model `name` in a temporary folder; the compiled manifest, as JSON has it."""
    progress = reporter(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="compile-check-") as folder:
        _, bundle = drafts.draft(name, precision, Path(folder), progress=progress)
        written = compile_bundle(bundle, "tensorrt_rtx", BuilderOptions((capability,)), progress)
        text = (written / compiled.MANIFEST).read_text("utf-8")
        for plan in Compiled.read(written / compiled.MANIFEST).plans:
            sizes = (
                f"{sum(file.size for file in plan.files) / 2**20:.1f}",
                f"{plan.activation_bytes / 2**20:.1f} MiB",
            )
            fused = f"{plan.attentions - len(plan.unfused_attentions)} of {plan.attentions}"
            print(
                COLUMNS.format(name, plan.name, plan.batch, f"{plan.build_seconds:.1f}", *sizes, fused),
                flush=True,
            )
    return json.loads(text)


if __name__ == "__main__":
    main()
