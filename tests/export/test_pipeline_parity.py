"""What the whole pipeline is compared with, and that no two of its models lie in memory together meanwhile."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from calotype_export import build, bundle_files, pipeline_parity, synthetic
from calotype_export.build import BuildOptions
from calotype_export.checkpoint import Checkpoint


@pytest.mark.parametrize("name", ["tiny-sd15", "tiny-sd15-inpainting", "tiny-sd2-depth"])
def test_latents_are_those_of_the_whole_pipeline_though_its_models_take_turns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BuildOptions(synthetic.write(name, tmp_path / name), tmp_path / "bundle", size=(64, 64))
    sources = build.opened(options)
    manifest = build.decide(sources, options)
    config = bundle_files.scheduler_config(sources, None, build.STATE_SLOTS)
    bundle: Any = SimpleNamespace(manifest=manifest, json=lambda _: config)
    present: list[weakref.ref[torch.nn.Module]] = []
    names: list[str] = []
    real = Checkpoint.load

    def alone(self: Checkpoint, name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        assert all(model() is None for model in present), f"{names[-1]} is in memory while {name} is loaded"
        model = real(self, name, dtype)
        present.append(weakref.ref(model))
        names.append(name)
        return model

    monkeypatch.setattr(Checkpoint, "load", alone)
    latents, pictures = pipeline_parity._eager(bundle, sources, dict.fromkeys(sources.components, "fp32"))
    monkeypatch.setattr(Checkpoint, "load", real)
    assert names[0] == "text_encoder"
    assert names[-1] == "vae"
    assert set(names) == set(sources.components) - {"safety_checker"}
    assert pictures[1].shape == (1, 64, 64, 3)
    size = {} if "depth" in manifest.conditioning else {"height": 64, "width": 64}
    generator = torch.Generator("cpu").manual_seed(pipeline_parity.SEEDS[1])
    whole = sources.checkpoint.pipeline()
    expected = whole(**pipeline_parity.request(manifest), **size, generator=generator).images
    np.testing.assert_allclose(latents[1], expected.numpy(), rtol=0, atol=1e-6)
