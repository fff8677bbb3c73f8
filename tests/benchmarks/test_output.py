"""Results that cannot be written where `-o` says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from calotype.errors import OutputError
from calotype_bench import results
from tests.benchmarks.test_latency_command import run


def test_a_folder_that_cannot_be_written_into_is_told_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever runs the tests may write anywhere
    status, _, err = run(capsys, "-o", str(tmp_path / "x.json"))
    assert status == 2
    assert f"the folder {tmp_path} is not yours to write into" in err


def test_what_is_known_so_far_may_not_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = results.write

    def failing(result: results.Result, path: Path) -> None:
        if ".partial" in path.name:
            raise OutputError(f"{path}: the result could not be written: No space left on device")
        write(result, path)

    monkeypatch.setattr(results, "write", failing)
    output = tmp_path / "result.json"
    status, _, err = run(
        capsys, "--backend", "onnxruntime", "--steps", "1", "--runs", "1", "--no-operators", "-o", str(output)
    )
    assert status == 0
    assert "result.partial.json: the result could not be written: No space left" in err
    assert output.is_file()
