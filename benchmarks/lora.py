"""How long it takes to apply a LoRA to a loaded pipeline and to take it off again.

`python benchmarks/lora.py BUNDLE [--backend NAME ...] [--rank 8] [-o RESULT.json]` writes a random LoRA of
every attention projection of the UNet and the text encoder, in PEFT's format, and times `Pipeline.set_lora`. Latents
before and after are compared bit for bit.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from calotype import Pipeline
from calotype.bundle import Bundle
from calotype.weights import COMPONENTS
from calotype_bench import paired

PROJECTIONS = re.compile(r"\.(to_[qkv]|to_out\.0|[qkv]_proj|out_proj)$")
STRENGTH = 0.02


def main() -> None:
    """Measure every backend, print a line each, and write the figures where -o says."""
    parser = paired.command(__doc__)
    parser.add_argument("--backend", action="append", metavar="NAME", help="(default: onnxruntime, openvino)")
    parser.add_argument("--rank", type=int, default=8, help="(default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calotype-lora-") as folder:
        adapter = Path(folder) / "random.safetensors"
        layers = write(options.bundle, adapter, options.rank)
        names = options.backend or ["onnxruntime", "openvino"]
        found = {name: measure(options.bundle, name, adapter) for name in names}
    for name, figures in found.items():
        print(
            f"{name}: {layers} layers of rank {options.rank}: "
            + ", ".join(f"{k} {v}" for k, v in figures.items())
        )
    paired.write(options.output, {"layers": layers, "rank": options.rank, "backends": found})


def write(bundle: Path, path: Path, rank: int) -> int:
    """Write a random LoRA of every attention projection; how many there are."""
    random = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for spec in Bundle.open(bundle).manifest.programs:
        component = COMPONENTS.get(spec.name)
        for parameter in spec.parameters if component else ():
            if PROJECTIONS.search(parameter.name):
                layer = f"{component}.{parameter.name}"
                rows, columns = parameter.shape[:2]
                tensors[f"{layer}.lora_A.weight"] = random.normal(0, STRENGTH, (rank, columns)).astype(
                    np.float32
                )
                tensors[f"{layer}.lora_B.weight"] = random.normal(0, STRENGTH, (rows, rank)).astype(
                    np.float32
                )
    save_file(tensors, path)
    return len(tensors) // 2


def measure(bundle: Path, backend: str, adapter: Path) -> dict[str, Any]:
    """Seconds to load, to apply and to take off; and whether the same latents are drawn afterwards."""
    begun = time.perf_counter()
    pipeline = Pipeline.load(bundle, backend)
    loaded = time.perf_counter()
    plain = _latents(pipeline)
    seconds: list[float] = []
    drawn: list[Any] = []
    for adapters in ([(adapter, 1.0)], []):
        started = time.perf_counter()
        pipeline.set_lora(adapters)
        seconds.append(time.perf_counter() - started)
        drawn.append(_latents(pipeline))
    changed, restored = drawn
    return {
        "load": round(loaded - begun, 2),
        "apply": round(seconds[0], 2),
        "take off": round(seconds[1], 2),
        "changes latents by": float(np.linalg.norm(changed - plain) / np.linalg.norm(plain)),
        "restored bit for bit": bool(np.array_equal(plain, restored)),
    }


def _latents(pipeline: Pipeline) -> Any:
    return pipeline("a lighthouse", num_inference_steps=1, seed=0, output_type="latent").images


if __name__ == "__main__":
    sys.exit(paired.carry_out(main))
