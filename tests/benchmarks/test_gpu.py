"""The command for a GPU, rehearsed with tiny checkpoints on the processor."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from calotype.backends._cuda_device import machine as gpu_machine
from calotype_bench import gpu, machine, portability
from calotype_bench.draw_calotype import Held
from calotype_bench.rates import Rates
from tests.bundles import bundle


@pytest.mark.slow
def test_every_backend_and_peer_is_a_row_or_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = dataclasses.replace(gpu.REHEARSAL, batches=(1,), runs=1)
    reasons, found = gpu.measure(
        "tiny-sd15", plan, Rates(1e11, 1e11), machine.describe(), tmp_path / "tiny-sd15"
    )
    out = capsys.readouterr().out

    assert reasons == {
        "tensorrt": "its library is not installed",
        "openvino": "",
        "onnxruntime": "",
    }
    assert "tiny-sd15 tensorrt: its library is not installed" in out
    (measurement,) = found.measurements
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


def test_a_bundle_that_cannot_be_compiled_here_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.backends.installed", lambda: ("tensorrt_rtx",))
    assert "is no bundle" in gpu.prepare(tmp_path / "nowhere", "tensorrt_rtx")
    assert gpu.prepare(tmp_path, "tensorrt") == "its library is not installed"


def test_a_plan_for_another_card_is_tried_where_there_is_one() -> None:
    found = portability.probe(bundle("plain"))
    assert set(found) == {"8.0", "none"}
    assert not any(answer == "opens" for answer in found.values()) or machine_has_a_gpu()


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


def test_hoisting_is_measured_by_backend_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    plan = dataclasses.replace(gpu.REHEARSAL, runs=2)
    found = gpu.hoisted(bundle("plain"), ["openvino", "tensorrt"], plan)
    assert found["openvino"]["distance"] < 1e-6
    assert len(found["openvino"]["samples"]) == 2
    assert "BackendError" in found["tensorrt"]
    assert "openvino: whole" in capsys.readouterr().out
