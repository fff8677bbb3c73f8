"""Which parts of a bundle are compared with what: precisions, backends, black pictures, architectures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from calotype import backends
from calotype.bundle import Bundle
from calotype.errors import CheckpointError, ParityError
from calotype_export import build, gates, pipeline_parity, signatures, verify
from calotype_export.build import BuildOptions
from calotype_export.sources import Sources, wrapped
from tests import bundles, fakes


@pytest.mark.parametrize(("asked", "used"), [("openvino", "openvino"), (None, "onnxruntime")])
def test_programs_and_pipeline_run_in_the_backend_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, sources: Sources, bundle: Bundle, asked: str | None, used: str
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(verify, "compare_programs", lambda *given: seen.append(given[2]) or [])
    monkeypatch.setattr(pipeline_parity, "compare", lambda *given: seen.append(given[2]) or {})
    record = verify.verify(bundle.root, sources, asked)
    assert [*seen, record["backend"]] == [used] * 3


def test_programs_of_several_precisions_are_compared_where_all_of_them_can_run() -> None:
    assert verify.measured_with({"fp32", "bf16"}) == verify.measured_with({"bf16"}) == "openvino"
    assert verify.measured_with({"fp32", "fp16"}) == verify.measured_with({"fp32"}) == "onnxruntime"


def test_examples_are_of_an_even_and_an_odd_seed() -> None:
    assert sorted(seed % 2 for seed in verify.SEEDS) == [0, 1]


def test_a_decoder_whose_pictures_are_black_is_refused(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    spec = bundle.program("vae_decoder")
    black = np.zeros(spec.output("image").shape, np.float32)
    monkeypatch.setattr(backends, "load", lambda *_, **__: (fakes.program(spec, lambda _: {"image": black}),))
    with pytest.raises(ParityError, match=r"vae_decoder \(batch 1\) gives a black picture"):
        verify._compare(bundle.root, verify._Case(spec, "fp32"), "onnxruntime", [black, black], None)


def test_a_component_in_single_precision_gets_no_allowance_for_the_bundles_half(
    sources: Sources, bundle: Bundle
) -> None:
    halved: Any = SimpleNamespace(manifest=dataclasses.replace(bundle.manifest, precision="fp16"))
    references = verify._references(halved, sources, "vae")
    assert [(case.spec.name, rounding) for case, _, rounding in references] == [
        ("vae_encoder", None),
        ("vae_decoder", None),
    ]


@pytest.mark.parametrize(
    ("component", "changes", "message"),
    [
        ("unet", {"in_channels": 9}, r"conditioning: expected \(\), found \('mask', 'masked_latents'\)"),
        ("unet", {"time_cond_proj_dim": 32}, "timestep_cond: expected 0, found 32"),
        ("unet", {"block_out_channels": [320]}, "width of the time embedding: expected 32, found 320"),
        ("text_encoder", {"hidden_size": 768}, "width of the embeddings: expected 32, found 768"),
    ],
)
def test_what_another_architecture_differs_in_is_named(
    sources: Sources, bundle: Bundle, component: str, changes: dict[str, Any], message: str
) -> None:
    checkpoint = sources.checkpoint
    model = checkpoint.models[component]
    other = dataclasses.replace(model, config={**model.config, **changes})
    changed = dataclasses.replace(checkpoint, models={**checkpoint.models, component: other})
    with pytest.raises(CheckpointError, match=message) as raised:
        verify.verify(bundle.root, Sources(changed))
    assert "name the checkpoint" in raised.value.hint


@pytest.mark.parametrize("component", ["depth_estimator", "safety_checker"])
def test_half_precision_is_allowed_what_eager_diffusers_loses_and_not_what_was_exported(
    component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Sources, "load")  # what programs are traced from
    name = "depth" if component == "depth_estimator" else "plain"
    sources = build.opened(BuildOptions(bundles.checkpoint(name), Path()))
    spec = dataclasses.replace(Bundle.open(bundles.bundle(name)).program(component), precision="bf16")
    halved: Any = SimpleNamespace(manifest=SimpleNamespace(programs=(spec,)))
    ((_, exact, rounding),) = verify._references(halved, sources, component)
    model = sources.checkpoint.load(component, torch.bfloat16)
    with torch.no_grad():
        eager = [
            value.numpy()
            for seed in verify.SEEDS
            for value in wrapped(component, model)(signatures.example_tensors(spec.inputs, seed)).values()
        ]
    assert rounding == gates.distance(eager, exact)
