"""What programs take, told before they are loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from calotype import listing, memory
from calotype.bundle import Bundle
from calotype.compiled import Plan
from calotype.errors import BackendError
from calotype.manifest import TensorSpec
from calotype.memory import Budget
from tests.bundles import bundle
from tests.engine.test_compiled import built, write

LATENTS = TensorSpec("latents", "float32", (1, 4, 64, 64))
IDS = TensorSpec("input_ids", "int64", (1, 77))


def plan(**changes: int) -> Plan:
    (one,) = built().plans
    return dataclasses.replace(one, inputs=(IDS,), outputs=(LATENTS,), **changes)


def test_activations_are_shared_and_everything_else_adds_up() -> None:
    plans = [plan(weight_bytes=1000, activation_bytes=70), plan(weight_bytes=200, activation_bytes=500)]
    found = memory.of_plans(plans)
    tensors = 2 * (77 * 8 + 4 * 64 * 64 * 4)

    assert (found.weights, found.activations, found.tensors) == (1200, 500, tensors)
    assert found.graphs > 0
    assert found.total == found.weights + found.activations + found.tensors + found.graphs


def test_what_is_handed_on_counts_for_every_picture_of_the_largest_step() -> None:
    embeddings = TensorSpec("embeddings", "float32", (6, 77, 8))
    step = dataclasses.replace(plan(), name="unet_step", batch=3, inputs=(embeddings, IDS))
    smaller = dataclasses.replace(step, batch=1, inputs=(IDS,), outputs=())
    decoder = dataclasses.replace(plan(), name="vae_decoder", inputs=(IDS,), outputs=(LATENTS,))
    sizes = [memory.tensor_bytes((tensor,)) for tensor in (embeddings, IDS, LATENTS)]

    alone = (sizes[0] + sizes[1] + sizes[2]) + sizes[1] + (sizes[1] + sizes[2])
    found = memory.of_plans([smaller, step, decoder])
    assert found.tensors == alone + sizes[0] + 3 * (sizes[1] + sizes[2])


@pytest.mark.parametrize("name", ["read", "write", "blend", "time_features", "noise"])
def test_tables_of_recorded_schedules_count(name: str) -> None:
    changing = TensorSpec(name, "float32", (1, 4, 64, 64))
    step = dataclasses.replace(plan(), name="unet_step", inputs=(IDS, changing))
    grown = (
        memory.of_plans([step]).graphs - memory.of_plans([dataclasses.replace(step, inputs=(IDS,))]).graphs
    )
    assert grown == memory.LONGEST_SCHEDULE * memory.SCHEDULES_KEPT * memory.tensor_bytes((changing,))


def test_only_the_step_is_recorded_for_every_row_of_a_schedule() -> None:
    kernels = 300
    other = dataclasses.replace(plan(), layers={"kernel": kernels})
    found = memory.of_plans([other]).graphs
    assert found >= kernels * 1024  # a recorded kernel is not free
    of_step = memory.of_plans([dataclasses.replace(other, name="unet_step")]).graphs
    assert of_step == found * (1 + memory.LONGEST_SCHEDULE * memory.SCHEDULES_KEPT)
    assert memory.of_plans([other], recorded=False).graphs == 0


def test_exported_graphs_have_weights_and_activations_of_their_own() -> None:
    specs = Bundle.open(bundle("plain")).manifest.programs
    found = memory.of_graphs(specs)

    assert found.weights == sum(file.size for spec in specs for file in spec.files)
    assert found.activations == sum(spec.activation_bytes for spec in specs) > 0
    assert found.tensors > 0
    assert found.graphs > memory.of_graphs(specs, recorded=False).graphs == 0


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    needed = Budget(weights=3 * 2**20, tensors=2**20, activations=2**20, graphs=0)
    memory.check(needed, 5 * 2**20, "cuda")
    with pytest.raises(BackendError, match=r"need 5 MiB \(weights 3 MiB, .*and 4 MiB are free"):
        memory.check(needed, 4 * 2**20, "cuda")


def test_inspecting_a_bundle_tells_what_it_takes(tmp_path: Path) -> None:
    data, text = listing.bundle(bundle("plain"))
    budget = memory.of_graphs(Bundle.open(bundle("plain")).manifest.programs)
    assert data["memory"] == {"exported": dataclasses.asdict(budget) | {"total": budget.total}}
    assert f"exported: weights {budget.weights / 2**20:.1f} MiB, tensors {budget.tensors / 2**20:.1f}" in text


def test_inspecting_tells_it_of_what_was_compiled_too(tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    root.mkdir()
    manifest = Bundle.open(bundle("plain")).manifest
    (root / "scheduler.json").write_bytes((bundle("plain") / "scheduler.json").read_bytes())
    kept = tuple(file for file in manifest.files if file.path == "scheduler.json")
    program = dataclasses.replace(manifest.programs[0], files=kept[:1], cuda_files=(), parameters=())
    small = dataclasses.replace(manifest, files=kept, programs=(program,))
    (root / "manifest.json").write_text(small.to_json())
    write(root, built())
    data, text = listing.bundle(root)

    budget = memory.of_plans(built().plans)
    assert data["memory"]["tensorrt_rtx 0123"] == dataclasses.asdict(budget) | {"total": budget.total}
    assert "tensorrt_rtx 0123: weights 0.0 MiB" in text
