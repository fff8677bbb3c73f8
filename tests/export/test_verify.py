"""Bundles against checkpoints that are, and are not, what they were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calotype.bundle import Bundle
from calotype.errors import CheckpointError, ParityError
from calotype_export import build, verify
from calotype_export.build import BuildOptions
from calotype_export.progress import silent
from calotype_export.sources import Sources
from tests import bundles


def test_a_bundle_verifies_against_its_own_checkpoint(sources: Sources, bundle: Bundle) -> None:
    record = verify.verify(bundle.root, sources)
    assert [(entry["program"], entry["batch"]) for entry in record["programs"]] == [
        (spec.name, spec.batch) for spec in bundle.manifest.programs
    ]
    assert record["pipeline"]["pixels_within_1_255"] >= 0.999
    assert record["peak_memory_bytes"] > 1e6


def test_another_backend_can_be_asked_for(sources: Sources, bundle: Bundle) -> None:
    records = verify.compare_programs(bundle, sources, "openvino", silent)
    assert max(entry["relative_l2"] for entry in records) <= 1e-4


def test_a_program_that_computes_something_else_is_named_with_its_distance(
    monkeypatch: pytest.MonkeyPatch, sources: Sources, bundle: Bundle
) -> None:
    def eager(self: Sources, component: str, precision: str) -> torch.nn.Module:
        model = self.checkpoint.load(component)
        if component == "unet":
            with torch.no_grad():
                next(iter(model.parameters())).mul_(1.01)
        return model

    monkeypatch.setattr(Sources, "eager", eager)
    with pytest.raises(
        ParityError, match=r"unet_step \(batch 1\) misses its gate: .* found .* times as much"
    ):
        verify.verify(bundle.root, sources)


def test_a_checkpoint_of_another_shape_is_an_error(bundle: Bundle) -> None:
    other = build.opened(BuildOptions(bundles.checkpoint("depth"), Path()))
    with pytest.raises(CheckpointError, match=r"components"):
        verify.verify(bundle.root, other)


def test_every_stage_reports_its_beginning_and_its_end(sources: Sources, bundle: Bundle) -> None:
    seen: list[tuple[str, int, int]] = []
    verify.compare_programs(bundle, sources, "onnxruntime", lambda *report: seen.append(report))
    assert seen[0] == ("compare programs", 0, len(bundle.manifest.programs))
    assert seen[-1] == ("compare programs", *[len(bundle.manifest.programs)] * 2)
    assert np.all(np.diff([done for _, done, _ in seen]) >= 0)
