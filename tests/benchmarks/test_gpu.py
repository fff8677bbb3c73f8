"""The command for a GPU, rehearsed with tiny checkpoints on the processor."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from calotype.backends._cuda import Device
from calotype.backends._cuda_device import machine as gpu_machine
from calotype_bench import gpu, gpu_models, machine, operators, portability, report_text
from calotype_bench.draw_calotype import Held, stopwatch_cost
from calotype_bench.draw_eager import fp32_noise
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Engine, Job
from calotype_bench.measurement import Measurement, Row
from calotype_bench.profile_onnxruntime import sum_by_name
from calotype_bench.rates import Rates
from tests.benchmarks import made
from tests.bundles import bundle
from tests.standin import gpu as standin


@pytest.mark.slow
def test_every_backend_and_peer_is_a_row_or_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = dataclasses.replace(gpu.REHEARSAL, batches=(1,), runs=1)
    reasons, found = gpu_models.measure(
        "tiny-sd15", plan, {"fp32": Rates(1e11, 1e11)}, machine.describe(), tmp_path / "tiny-sd15"
    )
    out = capsys.readouterr().out

    assert reasons == {
        "tensorrt": "its library is not installed",
        "openvino": "",
        "onnxruntime": "",
    }
    assert "tiny-sd15 tensorrt: its library is not installed" in out
    (measurement,) = found.measurements
    assert measurement.reference == "eager fp32"
    assert found.warm_up == "two pictures of each job in every process"
    names = [" ".join((row.engine.name, row.engine.backend)).strip() for row in measurement.rows]
    assert names == ["calotype openvino", "calotype onnxruntime", "eager"]
    for row in measurement.rows:
        assert len(row.samples) == 1
        assert row.fidelity is not None
        assert row.fidelity.latents is not None
        assert row.fidelity.latents < 1e-4
    assert found.floors[0]["fp32"]["total"] > 0
    kinds = found.operators["calotype openvino fp32"]["unet_step"]
    assert isinstance(kinds, dict)
    assert kinds["convolution"] > 0
    lines = report_text.summary([found]).splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["tiny-sd15", "x", "1", "calotype"], ["tiny-sd15", "x", "1", "calotype"], ["tiny-sd15", "x", "1", "eager"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("eagers", "ours", "strays"),
    [
        (4e-3, 4.2e-3, False),
        (4e-3, 0.34, True),
        (4e-3, 1.7e-2, True),
        (None, 4e-3, False),
        (None, 3e-2, True),
        (1.27, 0.34, True),
    ],
)
def test_latents_that_are_far_from_exact_ones_are_a_failure(
    eagers: float | None, ours: float | None, strays: bool
) -> None:
    rows = [
        Row(Engine(name, "", backend, "fp16", "cuda"), None, None, (), "", Fidelity(far, 1.0, 40.0, 1.0, 1))
        for name, backend, far in (("calotype", "onnxruntime", ours), ("eager", "", eagers))
    ]
    found = gpu_models.strays(Measurement(Job("", 1, 0), 1, "eager fp32", tuple(rows)), "fp16")
    assert ([*found] == ["calotype onnxruntime fp16"]) is strays


def test_what_is_chosen_is_what_the_result_says_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--models", "sd15", "--batches", "1,4", "--rehearse", "-o", "found")
    monkeypatch.setattr("sys.argv", ["gpu", *words])
    chosen = {"models": ("sd15",), "backends": None, "peers": None, "batches": (1, 4)}
    part = gpu._chosen(gpu.REAL, argparse.Namespace(**chosen))
    assert (part.models, part.batches) == (("sd15",), (1, 4))
    assert (part.backends, part.peers) == (gpu.REAL.backends, gpu.REAL.peers)
    assert part.command == ("python", "-m", "calotype_bench.gpu", *words)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_peers_in_half_precision_have_the_noise_of_float32(dtype: torch.dtype) -> None:
    unet = SimpleNamespace(config=SimpleNamespace(in_channels=4))
    pipeline = SimpleNamespace(vae_scale_factor=8, unet=unet, device="cpu")
    found = fp32_noise(Job("", 1, seed=5, batch=2, width=64, height=128), pipeline, dtype)
    exact = torch.randn((2, 4, 16, 8), generator=torch.Generator().manual_seed(5))
    assert torch.equal(found, exact.to(dtype))


def test_a_draft_is_found_again_where_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted: list[tuple[int, ...]] = []

    def draft(_: str, __: str, folder: Path, batches: tuple[int, ...]) -> tuple[Path, Path]:
        drafted.append(batches)
        shutil.copytree(bundle("plain"), folder / "bundle")
        return folder / "checkpoint", folder / "bundle"

    monkeypatch.setattr(gpu_models, "draft", draft)
    for batches in ((1,), (1, 2), (4,)):
        plan = dataclasses.replace(gpu.REHEARSAL, batches=batches)
        gpu_models._drafted("tiny-sd15", plan, tmp_path / "tiny-sd15")
    assert drafted == [(1,), (4,)]  # the bundle has batches of 1 and of 2
    (tmp_path / "tiny-sd15" / "bundle" / "manifest.json").unlink()
    (tmp_path / "tiny-sd15" / "somebody.safetensors").touch()
    gpu_models._drafted("tiny-sd15", plan, tmp_path / "tiny-sd15")
    assert drafted == [(1,), (4,), (4,)]
    assert (tmp_path / "tiny-sd15" / "somebody.safetensors").is_file()


def test_a_stage_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("it broke")

    monkeypatch.setattr("calotype_bench.rates.measure", broken)
    monkeypatch.setattr("calotype_bench.gpu_models.measure", broken)
    monkeypatch.setattr("sys.argv", ["gpu", "-o", str(tmp_path), "--rehearse", "--skip-tests"])
    assert gpu.main() == 1
    assert "failed: tiny-sd15: ValueError: it broke" in capsys.readouterr().out
    found = json.loads((tmp_path / "gpu-rehearsal.json").read_text("utf-8"))
    assert found["failures"] == dict.fromkeys(("rates", "tiny-sd15"), "ValueError: it broke")
    assert set(found["plans of other capabilities"]) == {"8.0", "none"}


def test_without_its_bundle_no_plan_of_another_card_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "BUNDLES", tmp_path / "nowhere")
    monkeypatch.setattr("calotype_bench.rates.measure", lambda *_: {})
    monkeypatch.setattr("sys.argv", ["gpu", "-o", str(tmp_path), "--rehearse", "--skip-tests"])
    monkeypatch.setattr("calotype_bench.gpu.REHEARSAL", dataclasses.replace(gpu.REHEARSAL, models=()))
    assert gpu.main() == 0


def test_pictures_that_are_far_from_exact_ones_make_the_command_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "BUNDLES", tmp_path / "nowhere")
    monkeypatch.setattr("calotype_bench.rates.measure", lambda *_: {})
    monkeypatch.setattr("calotype_bench.gpu_models.measure", lambda *_: ({}, made.latency()))
    monkeypatch.setattr("calotype_bench.gpu_models.strays", lambda *_: {"calotype x": "it is far"})
    words = ("-o", str(tmp_path), "--rehearse", "--skip-tests", "--skip-techniques")
    monkeypatch.setattr("sys.argv", ["gpu", *words])
    assert gpu.main() == 1
    assert "failed: tiny-sd15, calotype x: it is far" in capsys.readouterr().out


def test_tests_that_fail_make_the_command_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calotype_bench.gpu.tests", lambda _: {"status": 1, "said": "1 failed"})
    monkeypatch.setattr("calotype_bench.gpu._measure", lambda *_: [])
    monkeypatch.setattr("sys.argv", ["gpu", "-o", str(tmp_path), "--rehearse"])
    assert gpu.main() == 1
    assert json.loads((tmp_path / "gpu-rehearsal.json").read_text("utf-8"))["tests"]["said"] == "1 failed"


def test_a_bundle_that_cannot_be_compiled_here_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.backends.installed", lambda: ("tensorrt_rtx",))
    assert "is no bundle" in gpu_models.prepare(tmp_path / "nowhere", "tensorrt_rtx", "cuda")
    assert gpu_models.prepare(tmp_path, "tensorrt", "cuda") == "its library is not installed"


def test_a_plan_for_another_card_is_tried_where_there_is_one() -> None:
    found = portability.probe(bundle("plain"))
    assert set(found) == {"8.0", "none"}
    assert machine_has_a_gpu() or not any(answer.startswith("opens") for answer in found.values())
    assert "is no bundle" in portability.probe(Path("nowhere"))["none"]


def machine_has_a_gpu() -> bool:
    return bool(gpu_machine("").gpu)


def test_memory_is_what_an_engine_takes_while_it_works() -> None:
    in_use = 500
    held = Held(lambda: in_use)
    with held.watching():
        in_use += 100
    in_use += 7000  # another engine's turn
    with held.watching():
        in_use += 20
    assert held.bytes == 120


def test_what_a_run_costs_to_time_on_a_gpu_is_measured_with_events_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cuda = standin.install(monkeypatch, tmp_path)
    created: list[int] = []
    create = cuda.cudaEventCreateWithFlags
    monkeypatch.setattr(
        cuda, "cudaEventCreateWithFlags", lambda flags: (created.append(flags), create(flags))[1]
    )
    assert 0 < stopwatch_cost(Device(0)) < 1e-3
    assert len(created) == 2 * 128  # those of the runs that are waited for later


def test_hoisting_is_measured_by_backend_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    plan = dataclasses.replace(gpu.REHEARSAL, runs=2)
    found = gpu_models.hoisted(bundle("plain"), ["openvino", "tensorrt"], plan)
    assert found["openvino"]["distance"] < 1e-6
    assert len(found["openvino"]["samples"]) == 2
    assert "BackendError" in found["tensorrt"]
    assert "openvino, without what rows have in common: " in capsys.readouterr().out


def test_what_the_transformer_optimiser_makes_runs_or_says_why_not() -> None:
    found = gpu_models.fused(bundle("plain"), gpu.REHEARSAL)
    assert "NhwcConv" in found["fused"]  # which the CPU provider has no kernel for
    assert "NhwcConv" not in found["fused_but_convolutions"]


def test_kernels_are_counted_by_name_and_belong_to_a_kind() -> None:
    def event(name: str, device: str, microseconds: float) -> Any:
        return SimpleNamespace(
            name=name, device_type=SimpleNamespace(name=device), device_time_total=microseconds
        )

    names = ("flash_fwd_kernel", "sm90_xmma_fprop_implicit_gemm", "sm90_xmma_gemm_f16", "Memcpy DtoD")
    events = [event(name, "CUDA", 2e6) for name in names] + [event(names[0], "CUDA", 1e6)]
    found = sum_by_name([*events, event("cudaLaunchKernel", "CPU", 5e6)])
    assert found == {names[0]: 3.0, names[1]: 2.0, names[2]: 2.0, names[3]: 2.0}
    kinds = [operators.kind(name) for name in names]
    assert kinds == ["attention", "convolution", "matrix product", "layout"]
