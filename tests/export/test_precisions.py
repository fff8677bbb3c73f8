"""The precision of each component: the bundle's, but where half a float overflows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance
from safetensors.torch import load_file, save_file

from calotype.bundle import Bundle
from calotype.errors import ParityError
from calotype_export import build, gates, precisions
from calotype_export.build import BuildOptions
from calotype_export.group_norm import SteadyGroupNorm
from calotype_export.programs import SafetyChecker, dtype_of
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
        assert chosen["safety_checker"] == ("bf16" if precision == "bf16" else "fp32")
    assert tried == [True]


@pytest.mark.parametrize(("precision", "steady"), [("fp32", True), ("fp16", True), ("bf16", False)])
def test_sums_of_the_vae_encoder_are_steady_where_that_keeps_digits(precision: str, steady: bool) -> None:
    vae: Any = build.opened(BuildOptions(bundles.checkpoint("plain"), Path())).load("vae", precision)
    kinds = {type(module) for module in vae.encoder.modules()}
    assert ((SteadyGroupNorm in kinds), (torch.nn.GroupNorm in kinds)) == (steady, not steady)
    assert SteadyGroupNorm not in {type(module) for module in vae.decoder.modules()}


def test_scores_of_a_rounded_safety_checker_are_nearer_than_eagers(tmp_path: Path) -> None:
    sources = build.opened(BuildOptions(bundles.checkpoint("plain"), tmp_path))
    rounded: Any = sources.load("safety_checker", "bf16")
    assert dtype_of(rounded.vision_model) == torch.bfloat16
    assert dtype_of(rounded.visual_projection) == rounded.concept_embeds.dtype == torch.float32

    height, width = sources.sizes.pixels["safety_checker"]
    pixels = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    exact = scores(sources.load("safety_checker", "fp32"), pixels)
    ours = gates.distance(scores(rounded, pixels), exact).relative_l2
    eager = sources.checkpoint.load("safety_checker", torch.bfloat16)
    assert 0 < ours < gates.distance(eager_scores(eager, pixels), exact).relative_l2 < 0.1


def scores(checker: Any, pixels: torch.Tensor) -> list[gates.Array]:
    """As a bundle's program gives them."""
    with torch.no_grad():
        return [each.numpy() for each in SafetyChecker(checker)({"pixel_values": pixels}).values()]


def eager_scores(checker: Any, pixels: torch.Tensor) -> list[gates.Array]:
    """As StableDiffusionSafetyChecker makes them where all of it is rounded."""
    with torch.no_grad():
        embedding = checker.visual_projection(checker.vision_model(pixels.to(torch.bfloat16))[1])
        found = [
            cosine_distance(embedding, each) for each in (checker.special_care_embeds, checker.concept_embeds)
        ]
    return [each.float().numpy() for each in found]
