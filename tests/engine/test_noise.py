"""The noise of a seed, guarded by stored digests and by posted values of CUDA generators."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from calotype import noise
from calotype.draws import Draws
from calotype.errors import RequestError

GOLDEN = [
    ("cpu", 0, (1, 4, 64, 64), "float32", "24efac55b39e95b2"),
    ("cpu", 42, (1, 4, 64, 64), "float32", "e97f3de04c7c6ba8"),
    ("cpu", 2**32 + 7, (2, 4, 8, 8), "float32", "648035ec8abd4a89"),
    ("cpu", -1, (3, 5, 7), "float32", "bd557a1c717bb105"),
    ("cpu", -1, (3, 5, 7), "float16", "082a2e8da12dbe37"),
    ("cpu", 9, (13,), "float32", "350df6fc62dafba7"),
    ("cuda", 0, (1, 4, 64, 64), "float32", "b5609e611f1cb641"),
    ("cuda", 42, (1, 4, 64, 64), "float32", "6fff3d48609b0561"),
    ("cuda", 2**32 + 7, (2, 4, 8, 8), "float32", "31108bceddf75d2f"),
    ("cuda", -1, (3, 5, 7), "float16", "5916d5b66dfee043"),
    ("cuda", 9, (13,), "float32", "df3cbe9139541ad0"),
]


@pytest.mark.parametrize(("source", "seed", "shape", "dtype", "digest"), GOLDEN)
def test_a_seed_gives_the_stored_noise(
    source: str, seed: int, shape: tuple[int, ...], dtype: str, digest: str
) -> None:
    drawn = noise.generator(seed, source).normal(shape, dtype)
    assert (drawn.shape, drawn.dtype) == (shape, np.dtype(dtype))
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("seed", "posted"),
    [
        (0, [-0.9247, -0.4253, -2.6438, 0.1452]),
        (10, [-0.1029, 1.6810, -0.2708]),
        (42, [0.1940, 2.1614, -0.1721]),
    ],
)
def test_cuda_noise_has_the_values_that_people_posted(seed: int, posted: list[float]) -> None:
    drawn = noise.generator(seed, "cuda").normal(len(posted))
    np.testing.assert_allclose(drawn, posted, atol=5.1e-5)


def test_philox_gives_the_known_answers_of_its_authors() -> None:
    # Random123, kat_vectors: philox4x32 10, all zeros and all ones
    zeros = noise.philox(np.zeros((4, 1), np.uint64), (0, 0))
    ones = noise.philox(np.full((4, 1), 0xFFFFFFFF, np.uint64), (0xFFFFFFFF, 0xFFFFFFFF))
    assert [int(word) for word in zeros[:, 0]] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert [int(word) for word in ones[:, 0]] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("source", noise.SOURCES)
def test_two_draws_are_not_the_same(source: str) -> None:
    stream = noise.generator(1, source)
    assert not np.array_equal(stream.normal(64), stream.normal(64))


def test_whole_blocks_drawn_one_after_another_are_one_long_draw() -> None:
    stream = noise.generator(5)
    parts = [stream.normal(size) for size in (16, 4096, 32)]
    assert np.array_equal(np.concatenate(parts), noise.generator(5).normal(4144))


def test_a_batch_begins_with_the_picture_of_batch_one() -> None:
    assert np.array_equal(
        noise.generator(8).normal((2, 4, 8, 8))[:1], noise.generator(8).normal((1, 4, 8, 8))
    )


def test_the_card_decides_the_layout_only_past_one_launch() -> None:
    a100, h100 = noise.CudaDevice(108, 2048), noise.CudaDevice()
    first = noise.generator(3, "cuda", a100).normal(270_000)
    second = noise.generator(3, "cuda", h100).normal(270_000)
    assert int(np.argmax(first != second)) == 221_184


def test_cards_launch_as_many_threads_as_fit_at_once() -> None:
    cards = [
        noise.CudaDevice(*each) for each in ((132, 2048), (108, 2048), (128, 1536), (58, 1536), (40, 1024))
    ]
    assert [card.launch for card in cards] == [270_336, 221_184, 196_608, 89_088, 40_960]


@pytest.mark.parametrize("source", noise.SOURCES)
def test_noise_is_normal(source: str) -> None:
    drawn = noise.generator(11, source).normal(250_000).astype(np.float64)
    moments = [drawn.mean(), drawn.var(), (drawn**3).mean(), (drawn**4).mean()]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.05)


@pytest.mark.parametrize("source", noise.SOURCES)
def test_nothing_can_be_drawn_without_moving_the_stream(source: str) -> None:
    stream = noise.generator(2, source)
    assert stream.normal((0, 4)).shape == (0, 4)
    assert np.array_equal(stream.normal(20), noise.generator(2, source).normal(20))


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(RequestError, match=r"expected one of cpu, cuda, found 'mps'"):
        noise.generator(1, "mps")


@pytest.mark.parametrize("seed", [1.5, "7", None, True])
def test_a_seed_that_is_no_integer_is_named(seed: Any) -> None:
    with pytest.raises(RequestError, match=f"seed: expected an integer, found {seed!r}"):
        noise.generator(seed)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_torch_could_not_hold_is_refused(seed: int) -> None:
    with pytest.raises(RequestError, match=rf"from -2\*\*63 to 2\*\*64 - 1, found {seed}"):
        noise.generator(seed)


@pytest.mark.parametrize("source", noise.SOURCES)
def test_noise_of_another_dtype_is_refused(source: str) -> None:
    with pytest.raises(RequestError, match="noise dtype: expected float32 or float16, found float64"):
        noise.generator(1, source).normal(4, np.float64)


def test_without_a_seed_every_request_draws_noise_of_its_own_and_says_of_which_seed() -> None:
    drawn = [Draws(None, "cpu") for _ in range(4)]
    assert len({each.seeds for each in drawn}) > 1
    again = Draws(drawn[0].seeds[0], "cpu")
    assert np.array_equal(drawn[0].normal((2, 4, 8, 8)), again.normal((2, 4, 8, 8)))


def test_a_picture_of_a_listed_seed_does_not_depend_on_its_neighbours() -> None:
    together, alone = Draws([3, 4], "cpu"), Draws([4], "cpu")
    for _ in range(2):
        assert np.array_equal(together.normal((2, 4, 8, 8))[1:], alone.normal((1, 4, 8, 8)))
