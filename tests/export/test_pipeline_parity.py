"""What the whole pipeline is compared with, and which models lie in memory together meanwhile."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from calotype_export import build, bundle_files, eager, pipeline_parity, synthetic
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
    turns: list[set[str]] = []
    real = eager.pipeline

    def record(checkpoint: Checkpoint, dtype: torch.dtype, models: Collection[str]) -> Any:
        turns.append(set(models))
        return real(checkpoint, dtype, models)

    monkeypatch.setattr(eager, "pipeline", record)
    latents, pictures = pipeline_parity._eager(bundle, sources, "fp32")
    assert turns == [{"text_encoder"}, set(sources.components) - {"text_encoder", "safety_checker"}]
    assert pictures[1].shape == (1, 64, 64, 3)
    size = {} if "depth" in manifest.conditioning else {"height": 64, "width": 64}
    generator = torch.Generator("cpu").manual_seed(pipeline_parity.SEEDS[1])
    whole = real(sources.checkpoint, torch.float32)
    expected = whole(**pipeline_parity.request(manifest), **size, generator=generator).images
    np.testing.assert_allclose(latents[1], expected.numpy(), rtol=0, atol=1e-6)
