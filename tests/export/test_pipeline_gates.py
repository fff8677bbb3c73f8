"""The gates of the whole pipeline: which figures of latents and pictures pass them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calotype.errors import ParityError
from calotype_export import gates, pipeline_parity
from calotype_export.gates import Array
from calotype_export.programs import COMPONENTS
from calotype_export.progress import silent
from tests.export import modules

LATENTS: Array = np.ones((1, 4, 8, 6), np.float32)
PICTURE: Array = np.full((1, 64, 48, 3), 0.5, np.float32)


def compared(
    monkeypatch: pytest.MonkeyPatch,
    latents: Array = LATENTS,
    pictures: tuple[Array, Array] = (PICTURE, PICTURE),
    expected: Array = PICTURE,
    rounded: float | None = None,
    vae: str = "fp32",
) -> Mapping[str, Any]:
    """The record where the bundle gives `latents` and `pictures`; eager rounds its own by `rounded` of them."""
    precision = "fp32" if rounded is None else "bf16"
    specs = [SimpleNamespace(name="unet_step", precision=precision)]
    specs.append(SimpleNamespace(name="vae_decoder", precision=vae))
    decided = dataclasses.replace(modules.manifest(), precision=precision)
    manifest: Any = SimpleNamespace(precision=decided.precision, programs=specs)
    bundle: Any = SimpleNamespace(manifest=manifest, json=lambda _: {"_class_name": "DDIMScheduler"})

    def eager(_: Any, __: Any, precisions: Mapping[str, str]) -> tuple[list[Array], list[Array]]:
        moved = LATENTS if precisions["unet"] == "fp32" else LATENTS * np.float32(1 + (rounded or 0))
        return [moved, moved], [expected, expected]

    monkeypatch.setattr(pipeline_parity, "_eager", eager)
    monkeypatch.setattr(pipeline_parity, "_compiled", lambda *_: ([LATENTS, latents], pictures))
    sources: Any = None
    return pipeline_parity.compare(bundle, sources, "onnxruntime", silent)


def test_what_is_the_same_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    record = compared(monkeypatch)
    assert (record["latents"]["relative_l2"], record["pixels_within_1_255"]) == (0, 1)


def test_latents_of_one_seed_that_are_too_far_away_are_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParityError, match=r"the whole pipeline misses its gate: .* found 2\.00e-04"):
        compared(monkeypatch, latents=LATENTS * np.float32(1.0002))


def test_a_picture_of_one_seed_with_too_many_wrong_pixels_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = PICTURE.copy()
    wrong[:, :1] += 2 / 255
    with pytest.raises(ParityError, match=r"at least 99\.9% of the pixels .*, found 98\.44%"):
        compared(monkeypatch, pictures=(PICTURE, wrong))


def test_a_black_picture_is_a_miss_though_eagers_is_black_too(monkeypatch: pytest.MonkeyPatch) -> None:
    black = np.zeros_like(PICTURE)
    with pytest.raises(ParityError, match="the whole pipeline gives a black picture"):
        compared(monkeypatch, pictures=(black, black), expected=black)


def test_in_low_precision_latents_are_judged_by_eagers_own_rounding_and_pixels_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = compared(
        monkeypatch, LATENTS * np.float32(1.014), (PICTURE, PICTURE + np.float32(0.1)), rounded=0.01
    )
    assert record["latents"]["bound"] == pytest.approx(0.015, rel=1e-3)
    with pytest.raises(ParityError, match="the whole pipeline misses its gate"):
        compared(monkeypatch, LATENTS * np.float32(1.016), rounded=0.01)


def test_where_only_the_vae_is_rounded_latents_are_judged_as_float32_and_pixels_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = compared(monkeypatch, pictures=(PICTURE, PICTURE + np.float32(0.1)), vae="bf16")
    assert (record["latents"]["bound"], record["latents"]["reason"]) == (1e-4, "fp32")
    with pytest.raises(ParityError, match="the whole pipeline misses its gate"):
        compared(monkeypatch, LATENTS * np.float32(1.0002), vae="bf16")


@pytest.mark.parametrize(
    ("guided", "timestep_cond", "guidance"), [(True, 0, 7.5), (False, 32, 7.5), (False, 0, 1.0)]
)
def test_the_request_is_guided_where_the_bundle_can_be(
    guided: bool, timestep_cond: int, guidance: float
) -> None:
    manifest = modules.manifest(guided=guided, timestep_cond=timestep_cond)
    assert pipeline_parity.request(manifest)["guidance_scale"] == guidance


def test_every_program_has_a_bound_no_wider_than_the_whole_pipelines() -> None:
    assert gates.FP32_BOUNDS.keys() == {*COMPONENTS, "pipeline"}
    assert max(gates.FP32_BOUNDS.values()) == gates.FP32_BOUNDS["pipeline"] == 1e-4
