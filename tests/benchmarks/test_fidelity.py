"""How far two drawings are apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calotype_bench import fidelity, pictures, worker

RANDOM = np.random.default_rng(0)
PICTURES: NDArray[np.float64] = RANDOM.uniform(0.1, 0.9, (2, 32, 32, 3))
LATENTS: NDArray[np.float64] = RANDOM.standard_normal((2, 4, 4, 4))


def test_nothing_is_apart_from_itself() -> None:
    found = fidelity.compare(PICTURES, PICTURES, (LATENTS, LATENTS))
    assert found.latents == 0
    assert found.cosine == pytest.approx(1)
    assert found.psnr is None
    assert found.ssim == pytest.approx(1)
    assert found.largest == 0


def test_distances_are_those_of_their_definitions() -> None:
    moved = PICTURES.copy()
    moved[0, 0, 0, 0] += 51 / 255
    found = fidelity.compare(PICTURES, moved, (LATENTS, 1.01 * LATENTS))

    assert found.latents == pytest.approx(0.01)
    assert found.cosine == pytest.approx(1)
    assert found.largest == 51
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / (51**2 / PICTURES.size)))
    assert 0.9 < found.ssim < 1


def test_of_several_pictures_the_least_similar_counts() -> None:
    moved = PICTURES.copy()
    moved[0] = moved[0][::-1]
    worst = fidelity.compare(PICTURES[:1], moved[:1]).ssim
    assert fidelity.compare(PICTURES, moved).ssim == pytest.approx(worst)
    assert worst < 0.9


def test_eight_bits_are_rounded_to_the_nearest() -> None:
    assert fidelity.eight_bits(np.array([-1.0, 0.001, 0.003, 0.999, 2.0])).tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("places", [(0, 1), (1, 0)], ids=["darker", "brighter"])
def test_a_map_of_differences_does_not_mind_which_is_brighter(places: tuple[int, int]) -> None:
    shades = [pictures.encode(Image.new("RGB", (4, 4), (value,) * 3)) for value in (100, 103)]
    found = pictures.decode(pictures.difference(*(shades[place] for place in places)))
    assert np.asarray(found).max() == 3 * pictures.AMPLIFIED


def test_files_without_latents_are_compared_by_pictures(tmp_path: Path) -> None:
    for name, latents in (("a.npz", LATENTS), ("b.npz", None)):
        worker.save_drawn(str(tmp_path / name), PICTURES, latents)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "b.npz"}
    found = fidelity.of_files(tmp_path / "a.npz", tmp_path / "b.npz")
    assert found.latents is None
    assert found.cosine is None
    assert found.psnr is None


@pytest.mark.parametrize(
    ("precision", "latents", "psnr", "expected"),
    [
        ("fp32", 1e-6, 66.0, True),
        ("fp32", None, 66.0, True),
        ("fp32", 1e-6, 40.0, False),  # latents are right and the decoder is not
        ("fp32", 2e-3, None, False),
        ("fp16", 4e-3, 40.0, True),
        ("fp16", 4e-3, 25.0, False),
        ("bf16", 1e-1, 29.0, True),
        ("bf16", 3e-1, 29.0, False),
    ],
)
def test_rounding_explains_less_in_a_finer_precision(
    precision: str, latents: float | None, psnr: float | None, expected: bool
) -> None:
    assert fidelity.Fidelity(latents, None, psnr, 1.0, 1).plausible(precision) is expected


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(2, 32, 32, 3\), found \(1, 32, 32, 3\)"):
        fidelity.compare(PICTURES, PICTURES[:1])


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        fidelity.compare(PICTURES, PICTURES, (LATENTS, np.full_like(LATENTS, np.nan)))
