"""How fast OpenVINO computes the attention of a bundle's UNet, beside torch: each shape by itself, in turn.

`python -m calotype_bench.attention BUNDLE [--runs 15] [-o RESULT.json]` finds the shapes in the step's graph, gives
both the same numbers in the graph's precision, and prints a line a shape, and what all of a step's take.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops

from calotype.backends.openvino import Compiler
from calotype.bundle import Bundle
from calotype_bench import figure_tables, paired
from calotype_bench.statistics import ratio
from calotype_export import arguments
from calotype_export.gates import distance
from calotype_export.timed_run import turns, wall_seconds

DTYPES = {
    "f32": (torch.float32, ov.Type.f32),
    "bf16": (torch.bfloat16, ov.Type.bf16),
    "f16": (torch.float16, ov.Type.f16),
}
REST = 0.25  # seconds before each: threads of the library before it may still wait for work in a loop
# element type; queries and keys (B, heads, tokens, width)
Shape = tuple[str, tuple[int, ...], tuple[int, ...]]


def main() -> None:
    """Measure every shape, print a line each, and write the figures where -o says."""
    parser = paired.command(__doc__)
    parser.add_argument("--runs", type=arguments.positive, default=15, help="(default: %(default)s)")
    options = parser.parse_args()
    shapes = of_step(Bundle.open(options.bundle))
    found = [measure(shape, times, options.runs) for shape, times in shapes.items()]
    for each in found:
        print(told(each))
    total = {name: sum(each["times"] * each[name] for each in found) for name in ("openvino", "torch")}
    print(f"all of a step: OpenVINO {1000 * total['openvino']:.0f} ms, torch {1000 * total['torch']:.0f} ms")
    paired.write(options.output, {"shapes": found, "step": total})


def of_step(bundle: Bundle) -> Counter[Shape]:
    """How often each shape of attention occurs in a step for one picture."""
    graph = bundle.root / bundle.program("unet_step").files[0].path
    nodes: Any = Compiler().read(graph).get_ops()
    attentions = (node for node in nodes if node.get_type_name() == "ScaledDotProductAttention")
    return Counter(
        (
            str(node.get_element_type().get_type_name()),
            tuple(node.input_value(0).get_shape()),
            tuple(node.input_value(1).get_shape()),
        )
        for node in attentions
    )


def measure(shape: Shape, times: int, runs: int) -> dict[str, Any]:
    """Median seconds of both, their ratio with its interval, how far torch's are from OpenVINO's, and the samples."""
    dtype, queries, keys = shape
    random, kind = torch.Generator().manual_seed(0), DTYPES[dtype][0]
    q, k, v = (torch.randn(each, generator=random).to(kind) for each in (queries, keys, keys))
    engines = (
        _openvino(shape, (q, k, v)),
        lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v),
    )
    with torch.inference_mode():
        expected, found = (np.asarray(engine().float()) for engine in engines)
        samples = turns([partial(_rested, engine) for engine in engines], runs)
    one, other = np.median(samples, axis=0)
    longer = ratio(samples[:, 0], samples[:, 1])
    return {
        "dtype": dtype, "queries": list(queries), "keys": list(keys), "times": times,
        "openvino": float(one), "torch": float(other),
        "ratio": longer.value, "interval": (longer.low, longer.high), "fastest": samples.min(axis=0).tolist(),
        "distance": distance([found], [expected]).relative_l2, "samples": samples.tolist(),
    }  # fmt: skip


def _rested(engine: Callable[[], object]) -> float:
    """How long a second call takes, after a rest and a first one."""
    time.sleep(REST)
    engine()
    return wall_seconds(engine)


def _openvino(shape: Shape, given: tuple[torch.Tensor, ...]) -> Callable[[], torch.Tensor]:
    """Attention alone, with the settings of the runtime and on the memory of torch's tensors."""
    dtype, queries, _ = shape
    torchs, kind = DTYPES[dtype]
    request: Any = Compiler().compile(_alone(shape, kind)).create_infer_request()
    memory = [*given, torch.empty(queries, dtype=torchs)]  # has to live as long as the request
    for index, tensor in enumerate(given):
        request.set_input_tensor(index, _tensor(tensor, kind))
    request.set_output_tensor(_tensor(memory[-1], kind))

    def run() -> torch.Tensor:
        request.infer()
        return memory[-1]

    return run


def _alone(shape: Shape, kind: ov.Type) -> Any:
    """A model of attention of that shape."""
    library: Any = ov
    q, k, v = (ops.parameter(each, kind) for each in (shape[1], shape[2], shape[2]))
    return library.Model([ops.scaled_dot_product_attention(q, k, v)], [q, k, v])


def _tensor(tensor: torch.Tensor, kind: ov.Type) -> ov.Tensor:
    bits: Any = tensor.view(torch.int16).numpy() if tensor.element_size() == 2 else tensor.numpy()
    return ov.Tensor(bits, list(tensor.shape), kind)


def told(found: dict[str, Any]) -> str:
    """The figures of one shape in a line."""
    _, heads, tokens, width = found["queries"]
    return (
        f"{found['times']} of {heads} heads of {width}, {tokens} with {found['keys'][2]}, {found['dtype']}: "
        f"OpenVINO {1000 * found['openvino']:.2f} ms, torch {1000 * found['torch']:.2f} ms, "
        f"ratio {figure_tables.ratio(found)}, relative L2 {found['distance']:.1e}"
    )


if __name__ == "__main__":
    sys.exit(paired.carry_out(main))
