"""Seeds become normal noise: torch's CPU generator bit for bit, and its CUDA generator to rounding.

Successive calls continue one stream, as they do on a `torch.Generator`. Draw in diffusers' order:
`randn_tensor` takes the whole batch at once from one generator, or (1, C, H, W) from each of a list.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from calotype.errors import RequestError

Array = NDArray[Any]

SOURCES = ("cpu", "cuda")
BLOCK = 16  # torch transforms uniforms in blocks of 16; a smaller request takes another path


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """The card whose noise is imitated: it decides the layout of a draw larger than `launch` numbers.

    The default is an H100 or H200 (270,336 numbers a launch); an A100 has (108, 2048), an RTX 4090
    (128, 1536), an L4 (58, 1536), a T4 (40, 1024). One 4x64x64 latent, 16,384 numbers, is the same on all.
    """

    multiprocessors: int = 132
    threads_per_multiprocessor: int = 2048

    @property
    def launch(self) -> int:
        """The most threads of one launch: blocks of 256, as many as fit on the card at once."""
        return self.multiprocessors * (self.threads_per_multiprocessor // 256) * 256


class Generator(ABC):
    """A seeded stream of normal noise."""

    def normal(self, shape: int | Sequence[int], dtype: DTypeLike = np.float32) -> Array:
        """The next draw of `shape`, float32 or float16 as torch 2.13 draws it; RequestError for other dtypes.

        float16 is the float32 draw rounded where the size is below 16 or a multiple of it; of any other size
        torch's CPU generator redoes the last 16 numbers from a different place of the stream.
        """
        kind = np.dtype(dtype)
        if kind not in (np.dtype(np.float32), np.dtype(np.float16)):
            raise RequestError(
                f"noise dtype: expected float32 or float16, found {kind}",
                "draw float32 and convert: torch's float64 noise is another stream",
            )
        dimensions = tuple(shape) if isinstance(shape, Sequence) else (operator.index(shape),)
        return self._draw(math.prod(dimensions), kind).reshape(dimensions).astype(kind, copy=False)

    @abstractmethod
    def _draw(self, size: int, kind: np.dtype[Any]) -> Array:
        """The next `size` numbers, float32."""


def generator(seed: int, source: str = "cpu", device: CudaDevice | None = None) -> Generator:
    """The stream of `torch.Generator(source).manual_seed(seed)`.

    `source="cpu"` equals torch built for AVX2 or AVX-512 bit for bit; builds for ARM differ in the last bits.
    `source="cuda"` agrees to about 1e-6, as a card's sine and logarithm are its own; `device` is for it.
    Seeds from -2**63 to 2**64 - 1, negative ones wrapped as torch does; the CPU stream uses the low 32 bits.
    RequestError for any other seed or source.
    """
    number = _unsigned(seed)
    if source == "cpu":
        return CpuGenerator(number)
    if source == "cuda":
        return CudaGenerator(number, device or CudaDevice())
    raise RequestError(
        f"noise source: expected one of {', '.join(SOURCES)}, found {source!r}",
        "use 'cpu' (the default, the same everywhere) or 'cuda' (as a CUDA generator draws)",
    )


def _unsigned(seed: object) -> int:
    """`seed` as torch keeps it, 64 bits without a sign."""
    try:
        number = operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(seed, (bool, np.bool_)):
        raise RequestError(
            f"seed: expected an integer, found {seed!r} ({type(seed).__name__})",
            "pass seed=42, or a list of integers, one an image",
        )
    if not -(2**63) <= number < 2**64:
        raise RequestError(
            f"seed: expected an integer from -2**63 to 2**64 - 1, found {number}",
            "torch has no larger seeds; take the number modulo 2**64",
        )
    return number % 2**64


class CpuGenerator(Generator):
    """Source: `normal_fill` and `normal_distribution` of torch's ATen/native/cpu/DistributionTemplates.h."""

    def __init__(self, seed: int) -> None:
        self._mersenne = np.random.RandomState(seed % 2**32)
        self._spare: float | None = None  # the sine of the last small draw's unfinished pair

    def _draw(self, size: int, kind: np.dtype[Any]) -> Array:
        if size < BLOCK:
            return np.array([self._next() for _ in range(size)], np.float32)
        return self._large(size, size % BLOCK if kind == np.float32 else 0)

    def _words(self, count: int) -> NDArray[np.uint32]:
        return self._mersenne.randint(0, 2**32, size=count, dtype=np.uint32)

    def _large(self, size: int, unused: int) -> Array:
        """Normals (size,) from uniforms of 24 bits in blocks of 16.

        Where `size` is no multiple of 16, the last 16 numbers are redone from fresh uniforms; float32 has by
        then drawn `unused` of them for an incomplete block, float16 none.
        """
        whole = size - size % BLOCK
        last = BLOCK if whole < size else 0
        words = self._words(whole + unused + last)
        uniforms = (words & np.uint32(2**24 - 1)).astype(np.float32) * np.float32(2**-24)
        normals = box_muller(np.concatenate([uniforms[:whole], uniforms[whole + unused :]]))
        return np.concatenate([normals[: size - last], normals[whole:]])

    def _next(self) -> float:
        """One normal of float64; two of them come from two uniforms of 53 bits, the high word of each first."""
        if self._spare is not None:
            number, self._spare = self._spare, None
            return number
        words = [int(word) for word in self._words(4)]
        turn, chance = ((high << 32 | low) % 2**53 * 2.0**-53 for high, low in (words[:2], words[2:]))
        radius, angle = math.sqrt(-2.0 * math.log1p(-chance)), 2.0 * math.pi * turn
        self._spare = radius * math.sin(angle)
        return radius * math.cos(angle)


def box_muller(uniforms: Array) -> Array:
    """Normals (n,) from uniforms (n,) in [0, 1), n a multiple of 16: the pairs are eight apart.

    Source: `NormalFill16` of torch's DistributionTemplates.h in its AVX2 form.
    """
    blocks = uniforms.reshape(-1, 2, BLOCK // 2)
    radius = np.sqrt(np.float32(-2) * logarithm(np.float32(1) - blocks[:, 0]))
    sine, cosine = sine_cosine(np.float32(2 * math.pi) * blocks[:, 1])
    normals = np.stack([radius * cosine, radius * sine], axis=1)
    return (normals + np.float32(0)).reshape(-1)  # adding the mean, which turns -0.0 into 0.0


def _fused(a: Array, b: Array | np.float32, c: Array | np.float32) -> Array:
    """`a * b + c` as a fused multiply-add: the product of two float32 is exact in float64.

    The sum is rounded twice, to float64 and to float32; over all 2**24 uniforms this changes no value.
    """
    return (np.multiply(a, b, dtype=np.float64) + c).astype(np.float32)


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    """A polynomial of `x`, the highest power first, in fused multiply-adds."""
    value = np.full_like(x, np.float32(coefficients[0]))
    for coefficient in coefficients[1:]:
        value = _fused(value, x, np.float32(coefficient))
    return value


LOGARITHM = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
             -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
LOG_2 = (np.float32(-2.12194440e-4), np.float32(0.693359375))  # low part, high part
SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
QUARTER_PI = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)


def logarithm(x: Array) -> Array:
    """ln(x) for x in (0, 1]: Cephes' `logf` with the fused multiply-adds of torch's AVX2 build."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < np.float32(0.707106781186547524)
    power = (exponent - small).astype(np.float32)
    x = np.where(small, mantissa + mantissa, mantissa) - np.float32(1)
    square = x * x
    tail = _fused(_horner(LOGARITHM, x) * x, square, power * LOG_2[0]) - square * np.float32(0.5)
    return x + tail + power * LOG_2[1]


def sine_cosine(x: Array) -> tuple[Array, Array]:
    """(sin x, cos x) for x in [0, 8192): Cephes' `sinf` and `cosf` with torch's fused multiply-adds."""
    octant = ((x * np.float32(1.27323954473516)).astype(np.int32) + 1) & ~1
    turns = octant.astype(np.float32)
    for part in QUARTER_PI:
        x = _fused(turns, np.float32(part), x)
    square = x * x
    cosine = _fused(_horner(COSINE, square) * square, square, square * np.float32(-0.5)) + np.float32(1)
    sine = _fused(_horner(SINE, square) * square, x, x)
    swapped = (octant & 2) != 0
    sine, cosine = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    return np.where(octant & 4, -sine, sine), np.where((octant - 2) & 4, cosine, -cosine)


class CudaGenerator(Generator):
    """Source: torch's ATen/native/cuda/DistributionTemplates.h over cuRAND's Philox4x32-10 (Salmon 2011)."""

    def __init__(self, seed: int, device: CudaDevice) -> None:
        self._key = (seed % 2**32, seed >> 32)
        self._launch = device.launch
        self._turns = 0  # turns of the kernel's loop so far: a quarter of torch's offset

    def _draw(self, size: int, kind: np.dtype[Any]) -> Array:  # noqa: ARG002
        threads = min(-(-size // 256) * 256, self._launch)
        turns = -(-size // (4 * threads)) if size else 0
        drawn = [philox_normals(self._key, self._turns + turn, threads) for turn in range(turns)]
        self._turns += turns
        return np.concatenate(drawn, axis=None)[:size] if drawn else np.empty(0, np.float32)


def philox_normals(key: tuple[int, int], turn: int, threads: int) -> Array:
    """What `threads` threads draw in one turn of the loop, (4, threads): each thread writes one of each row.

    Source: `curand_normal4` of cuRAND's curand_normal.h (sine first).
    """
    counters = np.zeros((4, threads), np.uint64)
    counters[0], counters[1] = turn % 2**32, turn >> 32
    counters[2] = np.arange(threads)
    words = philox(counters, key).astype(np.float32)
    scale = np.float32(2.3283064e-10)  # 2**-32
    turn_scale = scale * np.float32(2 * math.pi)
    half = np.float32(0.5)
    uniforms = (words[0::2] * scale + scale * half).astype(np.float64)  # (2, threads)
    angles = (words[1::2] * turn_scale + turn_scale * half).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log(uniforms))
    pairs = np.stack([radius * np.sin(angles), radius * np.cos(angles)], axis=1)
    return pairs.reshape(4, -1).astype(np.float32)


def philox(counters: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox4x32-10: (4, n) words of 32 bits from (4, n) counters, both held in 64 bits."""
    low, high = np.uint64(2**32 - 1), np.uint64(32)
    a, b, c, d = counters
    for turn in range(10):
        first = np.uint64((key[0] + turn * 0x9E3779B9) % 2**32)
        second = np.uint64((key[1] + turn * 0xBB67AE85) % 2**32)
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (right >> high) ^ b ^ first, right & low, (left >> high) ^ d ^ second, left & low
    return np.stack([a, b, c, d])
