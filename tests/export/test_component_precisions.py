"""Which components are float32 in a bundle that is not, and what makes a VAE one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from calotype_export import build, precisions, program_files
from calotype_export.build import BuildOptions
from calotype_export.programs import Program, Tensors
from calotype_export.sources import Sources


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_looks_at_pictures_beside_the_work_stays_in_single_precision(
    depth_folder: Path, tmp_path: Path, precision: str
) -> None:
    options = BuildOptions(depth_folder, tmp_path / "bundle", precision=precision)
    opened = build.opened(options)
    sources = Sources(opened.checkpoint, segmenter=tmp_path)
    chosen = precisions.choose(sources, build.decide(opened, options), vae=precision)
    single = {"segmenter"} if precision == "bf16" else {"depth_estimator", "segmenter"}
    assert {name for name, found in chosen.items() if found == "fp32"} == single
    assert {found for name, found in chosen.items() if name not in single} == {precision}


class Constant(Program):
    """A program of the VAE that gives one number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, inputs: Tensors) -> dict[str, torch.Tensor]:
        return {"y": torch.full((1, 8), self.value)}


@pytest.mark.parametrize(
    ("encoder", "decoder", "holds"),
    [(0.5, 0.5, True), (0.0, 0.5, True), (0.5, 0.0, False), (0.5, torch.nan, False), (torch.inf, 0.5, False)],
)
def test_a_vae_holds_where_numbers_are_finite_and_the_picture_is_not_black(
    monkeypatch: pytest.MonkeyPatch, sd15_folder: Path, encoder: float, decoder: float, holds: bool
) -> None:
    options = BuildOptions(sd15_folder, Path("bundle"), precision="fp16")
    sources = build.opened(options)
    values = {"vae_encoder": encoder, "vae_decoder": decoder}
    monkeypatch.setattr(precisions, "wrapped", lambda name, _: Constant(values[name]))
    assert precisions.vae_holds(sources, build.decide(sources, options)) is holds


def test_every_component_is_loaded_in_the_precision_that_was_chosen_for_it(
    monkeypatch: pytest.MonkeyPatch, sd15_folder: Path, tmp_path: Path
) -> None:
    options = BuildOptions(sd15_folder, tmp_path / "bundle", precision="fp16")
    sources = build.opened(options)
    loaded: dict[str, str] = {}
    described: dict[str, str] = {}
    real = Sources.load

    def load(self: Sources, component: str, precision: str) -> torch.nn.Module:
        loaded[component] = precision
        return real(self, component, precision)

    def export(name: str, _: Any, plan: Any, __: Any) -> list[Any]:
        described[name] = plan.precision
        return []

    monkeypatch.setattr(Sources, "load", load)
    monkeypatch.setattr(program_files, "_export", export)
    chosen = {"text_encoder": "fp16", "unet": "bf16", "vae": "fp32", "safety_checker": "fp32"}
    program_files.export(sources, build.decide(sources, options), chosen, tmp_path)
    assert loaded == chosen
    assert described == {
        "text_encoder": "fp16", "unet_step": "bf16", "vae_encoder": "fp32", "vae_decoder": "fp32",
        "safety_checker": "fp32",
    }  # fmt: skip
