"""The command for a GPU, rehearsed with tiny checkpoints on the processor."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from calotype_bench import gpu
from calotype_bench.rates import Rates


@pytest.mark.slow
def test_every_backend_and_peer_is_a_row_or_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = dataclasses.replace(gpu.REHEARSAL, batches=(1,), runs=1)
    found = gpu.measure("tiny-sd15", plan, Rates(1e11, 1e11), tmp_path / "tiny-sd15")
    out = capsys.readouterr().out

    assert found["backends"] == {
        "tensorrt": "its library is not installed",
        "openvino": "",
        "onnxruntime": "",
    }
    assert "tiny-sd15 tensorrt: its library is not installed" in out
    for batch in ("1",):
        rows = found["batches"][batch]["rows"]
        assert [row["engine"]["name"] for row in rows] == ["calotype", "calotype", "eager"]
        assert all(len(row["samples"]) == 1 for row in rows)
        assert all(row["distance"] < 1e-4 for row in rows)
        assert found["batches"][batch]["floor_seconds"]["total"] > 0


def test_a_bundle_that_cannot_be_compiled_here_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.backends.installed", lambda: ("tensorrt_rtx",))
    assert "is no bundle" in gpu.prepare(tmp_path / "nowhere", "tensorrt_rtx")
    assert gpu.prepare(tmp_path, "tensorrt") == "its library is not installed"
