"""The CPU stream against torch's own generator, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calotype import noise

torch = pytest.importorskip("torch")

SIZES = [16, 5, 16384, 17, 1, 33, 3, 100, 15, 31, 2, 2, 0, 16385, 65536]
SEEDS = [*range(24), 42, 1024, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**63, 2**64 - 1, -1, -12345, -(2**63)]


def bits(array: NDArray[Any]) -> NDArray[Any]:
    """The bits of a float32 or float16 array, so that zeros of both signs differ."""
    return array.view(np.uint32 if array.dtype == np.float32 else np.uint16)


@pytest.fixture(scope="module", autouse=True)
def vectorised() -> None:
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("torch's noise differs in the last bits where it is not built for AVX2")


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_of_every_size_and_dtype_continue_torchs_stream(seed: int) -> None:
    ours, theirs = noise.generator(seed), torch.Generator().manual_seed(seed)
    for size in SIZES:
        for dtype in ("float32", "float16"):
            expected = torch.randn(size, generator=theirs, dtype=getattr(torch, dtype)).numpy()
            np.testing.assert_array_equal(bits(ours.normal(size, dtype)), bits(expected), f"{size} {dtype}")


def test_a_single_size_starts_as_torch_does() -> None:
    for size in range(70):
        ours = noise.generator(size).normal(size)
        theirs = torch.randn(size, generator=torch.Generator().manual_seed(size)).numpy()
        np.testing.assert_array_equal(bits(ours), bits(theirs), str(size))


def test_a_million_numbers_of_one_seed_are_torchs() -> None:
    ours = noise.generator(7).normal(2**20)
    theirs = torch.randn(2**20, generator=torch.Generator().manual_seed(7)).numpy()
    np.testing.assert_array_equal(bits(ours), bits(theirs))


def test_a_batch_and_a_list_of_generators_draw_as_diffusers_does() -> None:
    randn_tensor: Any = pytest.importorskip("diffusers.utils.torch_utils").randn_tensor
    shape = (3, 4, 8, 8)
    together = randn_tensor(shape, torch.Generator().manual_seed(4)).numpy()
    apart = randn_tensor(shape, [torch.Generator().manual_seed(seed) for seed in (4, 5, 6)]).numpy()
    ours = np.concatenate([noise.generator(seed).normal((1, *shape[1:])) for seed in (4, 5, 6)])
    np.testing.assert_array_equal(bits(noise.generator(4).normal(shape)), bits(together))
    np.testing.assert_array_equal(bits(ours), bits(apart))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_torch_refuses_the_seeds_that_are_refused_here(seed: int) -> None:
    with pytest.raises((RuntimeError, ValueError, OverflowError)):
        torch.Generator().manual_seed(seed)
