"""How fast this machine multiplies: the best that torch's libraries reach on one large product and convolution."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from calotype.errors import BackendError
from calotype_bench.conversation import TIMEOUT
from calotype_bench.environments import PeerError, answer

if TYPE_CHECKING:
    import torch

Made = Callable[[int], Callable[[], object]]  # of a size, what is run
Timed = Callable[[Made, Sequence[int]], tuple[int, float]]  # of sizes, the one taken and seconds of a run

_RUNS = 7
# Of square matrices, and pixels of a picture's side. The last is large enough to fill the machine and small enough to
# be quick, but not where there are no kernels (bfloat16 in torch without AVX-512: 0.3 GFLOP/s).
_SIDES = {"cpu": (256, 512, 1024, 2048), "cuda": (2048, 8192)}
_PIXELS = (8, 16, 32, 64)
_SHORT = 0.1  # seconds: what takes no longer is tried at its next size
# Launched one behind another before a GPU is waited for, which takes microseconds.
_AT_ONCE = {"cpu": 1, "cuda": 20}


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


def at_best(
    found: Mapping[str, Rates], measured: Callable[[], Mapping[str, Rates]], say: Callable[[str], None]
) -> Mapping[str, Rates]:
    """The better of the rates that were found and those of now, in the same precisions; where these cannot be measured,
    the former: no reason to lose what took hours.
    """
    try:
        now = measured()
    except BackendError as error:
        say(f"what was measured before is kept: {error.message}")
        return found
    return {precision: rate.better(now[precision]) for precision, rate in found.items()}


def measure(
    precisions: Sequence[str], device: str, threads: int | None = None, timeout: float = TIMEOUT
) -> dict[str, Rates]:
    """The rate in each precision, measured in a process of its own, so that torch is not in the caller's. BackendError,
    also where that takes longer than `timeout` seconds.

    What half precision allows can also be computed in float32: the better of both is the rate in half precision.
    """
    try:
        found = answer("rates", [",".join(precisions), device, str(threads or 0)], timeout)
    except PeerError as error:
        what = f"the machine's rate in {', '.join(precisions)} on {device} cannot be measured"
        raise BackendError(f"{what}: {error}") from error
    return {precision: Rates(**rate) for precision, rate in found.items()}


def _main() -> None:
    import torch

    precisions, device, threads = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
    if threads:
        torch.set_num_threads(threads)
    if device != "cpu":
        torch.cuda.set_device(torch.device(device).index or 0)  # the one that is waited for
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # which would round what float32's convolutions are given
    halves = {"fp16": torch.float16, "bf16": torch.bfloat16}
    with torch.inference_mode():
        exact = _measured(device, torch.float32)
        found = {
            precision: in_half(partial(_measured, device, halves[precision]), exact)
            if precision in halves
            else exact
            for precision in precisions
        }
    print(json.dumps({precision: asdict(rate) for precision, rate in found.items()}))


def in_half(measured: Callable[[], Rates], exact: Rates) -> Rates:
    """The rate in half precision, or in float32 where that is higher, or torch cannot compute in the other at all."""
    try:
        return measured().better(exact)
    except RuntimeError:
        return exact


def _measured(device: str, dtype: torch.dtype) -> Rates:
    """At the largest sizes that are quick."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    def product(side: int) -> Callable[[], object]:
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        return lambda: left @ right

    def pointwise(side: int) -> Callable[[], object]:
        """The same product as a convolution of single pixels: oneDNN's, where `product` is MKL's."""
        rows = torch.randn(1, side, side, 1, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        kernel = torch.randn(side, side, 1, 1, device=device, dtype=dtype)
        return lambda: torch.nn.functional.conv2d(rows, kernel)

    # a layer of the UNet's own: 320 channels of 64 by 64, guidance on, channels last
    batch, channels = (2 if device == "cpu" else 16), 320

    def convolution(pixels: int) -> Callable[[], object]:
        picture = torch.randn(batch, channels, pixels, pixels, device=device, dtype=dtype)
        kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        picture, kernel = (each.to(memory_format=torch.channels_last) for each in (picture, kernel))
        return lambda: torch.nn.functional.conv2d(picture, kernel, padding=1)

    products = (product, pointwise) if device == "cpu" else (product,)  # MKL leaves AVX-512 alone on AMD's
    kind = device.partition(":")[0]
    timed = partial(best, wait=wait, at_once=_AT_ONCE[kind])
    return Rates(
        fastest(products, _SIDES[kind], lambda side: 2 * side**3, timed),
        fastest((convolution,), _PIXELS, lambda pixels: 2 * batch * pixels**2 * channels**2 * 9, timed),
    )


def fastest(
    ways: Sequence[Made], sizes: Sequence[int], operations: Callable[[int], int], timed: Timed
) -> float:
    """Operations a second of the fastest of some ways to do the same, each at the size that `timed` takes."""
    return max(operations(size) / seconds for size, seconds in (timed(made, sizes) for made in ways))


def best(
    made: Made, sizes: Sequence[int], wait: Callable[[], None] = lambda: None, at_once: int = 1
) -> tuple[int, float]:
    """The size taken, and median seconds of the faster half of some runs: the machine without its worst moments.

    A run is timed as a share of `at_once` launched one behind another, and waited for together.
    """

    def timed(run: Callable[[], object]) -> float:
        wait()
        begun = time.perf_counter()
        for _ in range(at_once):
            run()
        wait()
        return (time.perf_counter() - begun) / at_once

    size, *larger = sizes
    run = made(size)
    while min(timed(run) for _ in range(2)) <= _SHORT and larger:  # of the two the first may choose kernels
        size = larger.pop(0)
        run = made(size)
    seconds = sorted(timed(run) for _ in range(_RUNS))
    return size, statistics.median(seconds[: _RUNS // 2 + 1])


if __name__ == "__main__":
    _main()
