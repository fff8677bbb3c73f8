"""How fast this machine multiplies: the best that torch reaches on one large product and one large convolution."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from calotype.errors import BackendError
from calotype_bench.environments import reason

_RUNS = 7
_SIDES = {
    "cpu": 2048,
    "cuda": 8192,
}  # of the matrices: large enough to fill the machine, small enough to be quick


@dataclass(frozen=True, slots=True)
class Rates:
    """Floating-point operations a second, a multiplication and an addition being two."""

    product: float
    convolution: float

    def floor(self, operations: Mapping[str, int]) -> float:
        """Seconds that `operations` (by kind, as `flops.count` gives them) would take at these rates."""
        convolutions = operations.get("Conv", 0)
        return convolutions / self.convolution + (sum(operations.values()) - convolutions) / self.product

    def better(self, other: Rates) -> Rates:
        """Of either rate the higher one: a machine is as fast as it was at its best."""
        return Rates(max(self.product, other.product), max(self.convolution, other.convolution))


def measure(precision: str, device: str, threads: int | None = None) -> Rates:
    """Measure in a process of its own, so that torch is not in the caller's. BackendError."""
    command = [sys.executable, "-m", "calotype_bench.rates", precision, device, str(threads or 0)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise BackendError(
            f"the machine's rate in {precision} on {device} cannot be measured: {reason(run.stderr, run.returncode)}"
        )
    return Rates(**json.loads(run.stdout.splitlines()[-1]))


def _main() -> None:
    import torch

    precision, device, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    side = _SIDES[device.partition(":")[0]]

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    with torch.inference_mode():
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        product = _best(lambda: left @ right, wait)
        # a layer of the UNet's own: 320 channels of 64 by 64, guidance on, channels last
        batch, channels, pixels = (2 if device == "cpu" else 16), 320, 64
        picture = torch.randn(batch, channels, pixels, pixels, device=device, dtype=dtype)
        kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        picture, kernel = (each.to(memory_format=torch.channels_last) for each in (picture, kernel))
        convolution = _best(lambda: torch.nn.functional.conv2d(picture, kernel, padding=1), wait)
    operations = 2 * batch * channels * pixels * pixels * channels * 9
    print(json.dumps({"product": 2 * side**3 / product, "convolution": operations / convolution}))


def _best(run: Callable[[], object], wait: Callable[[], None]) -> float:
    """Median seconds of the faster half of some runs: what the machine can do, without its worst moments."""
    seconds: list[float] = []
    for _ in range(_RUNS + 2):
        wait()
        begun = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(sorted(seconds[2:])[: _RUNS // 2 + 1])


if __name__ == "__main__":
    _main()
