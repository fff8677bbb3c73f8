"""The precision of each component: the bundle's, but where half a float overflows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from calotype.bundle import Bundle
from calotype.errors import ParityError
from calotype_export import build, precisions
from calotype_export.build import BuildOptions
from tests import bundles

WEIGHTS = "vae/diffusion_pytorch_model.safetensors"
LAYERS = {"decoder": "decoder.conv_in", "encoder": "encoder.conv_in"}


def overflowing(part: str, folder: Path) -> Path:
    """A checkpoint whose VAE's first layer gives numbers over 65504; a group norm makes ordinary ones of them."""
    checkpoint = shutil.copytree(bundles.checkpoint("plain"), folder / "checkpoint")
    weights = load_file(checkpoint / WEIGHTS)
    for kind in ("weight", "bias"):
        weights[f"{LAYERS[part]}.{kind}"] *= 3e5
    save_file(weights, checkpoint / WEIGHTS, {"format": "pt"})
    return checkpoint


@pytest.mark.parametrize("part", LAYERS)
def test_a_vae_that_overflows_in_half_precision_is_single(part: str, tmp_path: Path) -> None:
    options = BuildOptions(overflowing(part, tmp_path), tmp_path / "bundle", size=(64, 64), precision="fp16")
    stages: list[str] = []
    path = build.build(options, lambda stage, *_: stages.append(stage))
    bundle = Bundle.open(path)
    found = {spec.name: spec.precision for spec in bundle.manifest.programs}
    assert {name for name, precision in found.items() if precision == "fp16"} == {"text_encoder", "unet_step"}
    assert "the vae overflows in fp16, fp32 is taken" in stages
    assert bundle.manifest.parity["pipeline"]["latents"]["relative_l2"] > 0


def test_a_precision_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    checkpoint = overflowing("decoder", tmp_path)
    options = BuildOptions(checkpoint, tmp_path / "bundle", (64, 64), precision="fp16", vae_precision="fp16")
    with pytest.raises(ParityError, match=r"vae_decoder .* not finite"):
        build.build(options)


def test_a_vae_can_be_wider_than_the_rest(tmp_path: Path) -> None:
    options = BuildOptions(
        bundles.checkpoint("plain"), tmp_path / "bundle", (64, 64), precision="fp16", vae_precision="fp32"
    )
    manifest = json.loads((build.build(options) / "manifest.json").read_text("utf-8"))
    found = {spec["name"]: spec["precision"] for spec in manifest["programs"]}
    assert (found["unet_step"], found["vae_decoder"]) == ("fp16", "fp32")


def test_only_half_precision_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried: list[bool] = []
    monkeypatch.setattr(precisions, "vae_holds", lambda *_: tried.append(True) or True)
    for precision in ("fp32", "bf16", "fp16"):
        options = BuildOptions(bundles.checkpoint("plain"), tmp_path, precision=precision)
        sources = build.opened(options)
        chosen = precisions.choose(sources, build.decide(sources, options))
        assert chosen["vae"] == precision
        assert chosen["safety_checker"] == "fp32"
    assert tried == [True]
