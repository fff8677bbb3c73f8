"""What the operators of ONNX Runtime's own transformer optimiser gain on the step, or why they do not run here.

`python -m calotype_bench.fusions BUNDLE [--device cpu] [--runs 10] [-o RESULT.json]`. Some of them run on the CUDA
provider alone. `calotype-export compile --backend onnxruntime --device cuda` keeps those that are faster.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from calotype.backends import BackendOptions
from calotype.bundle import Bundle
from calotype_bench import paired
from calotype_bench.paired import Figures
from calotype_export import fused_plans, ort_optimiser, signatures


def main() -> None:
    """Measure, print a line each, and write the figures where -o says."""
    options = paired.parser(__doc__).parse_args()
    found = measure(options.bundle, options.device, options.runs)
    print("\n".join(told(found)))
    paired.write(options.output, found)


def told(found: Mapping[str, Figures | str]) -> list[str]:
    """A line for each candidate: its figures and new operators, or why there are none."""
    return [
        f"onnxruntime.transformers, {name}: {one}"
        if isinstance(one, str)
        else f"{paired.told(f'onnxruntime.transformers, {name}', one)}; {one['fused']}"
        for name, one in found.items()
    ]


def measure(root: Path, device: str, runs: int) -> dict[str, Figures | str]:
    """The bundle's step for one picture as it is beside each candidate, in turn; or why one does not run.

    `fused` counts the operators that are new.
    """
    found: dict[str, Figures | str] = {}
    bundle, options = Bundle.open(root), BackendOptions(device, compiled=False)
    for name in fused_plans.GRAPHS:
        try:
            found[name] = _beside(bundle, name, options, runs)
        except Exception as error:  # the optimiser's, or the provider's that lacks one of its operators
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _beside(bundle: Bundle, name: str, options: BackendOptions, runs: int) -> Figures:
    root, spec = bundle.root, bundle.program("unet_step")
    with tempfile.TemporaryDirectory(prefix="fusions-") as folder:
        made = Path(folder) / name
        fused = ort_optimiser.optimise(root, spec, made, fused_plans.GRAPHS[name])
        given = signatures.example(spec.inputs, 0)
        with ExitStack() as opened:
            (one,) = paired.loaded(opened, "onnxruntime", root, [spec], options)
            (other,) = paired.loaded(opened, "onnxruntime", made, [fused], options)
            found = paired.compare(one, other, (given, given), runs)
        found["fused"] = dict(ort_optimiser.operators(made / fused.files[0].path))
    return found


if __name__ == "__main__":
    sys.exit(paired.carry_out(main))
