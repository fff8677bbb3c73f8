"""OpenVINO's attention beside torch's: the shapes are those of the step, and both compute the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from calotype.bundle import Bundle
from calotype_bench import attention, paired
from tests.bundles import bundle


def test_the_shapes_are_those_of_the_step() -> None:
    found = attention.of_step(Bundle.open(bundle("plain")))
    assert found["f32", (2, 4, 256, 8), (2, 4, 256, 8)] == 3  # on the way down once, twice on the way up
    assert found["f32", (2, 4, 256, 8), (2, 4, 77, 8)] == 3
    assert sum(found.values()) == 20


@pytest.mark.parametrize(("dtype", "bound"), [("f32", 1e-5), ("bf16", 2**-6)])
def test_both_compute_the_same(dtype: str, bound: float) -> None:
    found = attention.measure((dtype, (2, 4, 64, 16), (2, 4, 77, 16)), 3, 2)
    assert 0 < found["distance"] < bound
    assert len(found["samples"]) == 2
    assert min(found["openvino"], found["torch"]) > 0


def test_the_ratio_is_of_openvinos_seconds_to_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "turns", lambda *_: np.array([[3.0, 1.0]] * 6))
    found = attention.measure(("f32", (1, 1, 4, 8), (1, 1, 4, 8)), 1, 6)
    assert (found["openvino"], found["torch"], found["ratio"]) == (3, 1, 3)


def test_the_command_writes_what_all_of_a_step_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.json"
    monkeypatch.setattr("sys.argv", ["attention.py", str(bundle("plain")), "--runs", "1", "-o", str(output)])
    assert paired.carry_out(attention.main) == 0
    found = json.loads(output.read_text())
    whole = sum(each["times"] * each["openvino"] for each in found["shapes"])
    assert found["step"]["openvino"] == pytest.approx(whole)
    told = capsys.readouterr().out
    assert "3 of 4 heads of 8, 256 with 77, f32: OpenVINO" in told
    assert "all of a step: OpenVINO" in told
