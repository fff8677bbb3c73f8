"""Engines in processes of their own, drawing in turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from calotype_bench import latency
from calotype_bench.cli import main
from calotype_bench.conversation import PeerError, Worker
from calotype_bench.jobs import Engine, Job
from tests.bundles import bundle, checkpoint

JOB = Job("a red circle", 2, 0)
CALOTYPE = Engine("calotype", str(bundle("plain")), "onnxruntime", threads=1)
EAGER = Engine("eager", str(checkpoint("plain")), threads=1)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["latency", str(bundle("plain")), "--threads", "1", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_engines_draw_in_turn_and_the_same_picture() -> None:
    seen: list[tuple[int, int]] = []
    rows = latency.measure([CALOTYPE, EAGER], JOB, 3, lambda *progress: seen.append(progress))
    calotype, eager = rows

    assert seen[-1] == (1, 1)
    for row in rows:
        assert len(row.samples) == 3
        assert row.ready is not None
        assert row.first is not None
        assert row.ready.import_seconds > 0
        for sample in row.samples:
            assert sample.evaluations == 2
            assert sample.resident_bytes > 2**20
            assert sum(sample.parts.values()) == pytest.approx(sample.seconds, rel=0.2)
            assert sample.parts["unet_step"] > 0
    assert calotype.distance == 0
    assert eager.distance is not None
    assert 0 < eager.distance < 1e-4
    assert latency.compare(rows)[1].value > 0


def test_an_engine_that_cannot_be_loaded_is_a_row_that_says_why() -> None:
    missing = Engine("calotype", str(bundle("plain")), "tensorrt", device="cuda")
    rows = latency.measure([CALOTYPE, missing], JOB, 1, lambda *_: None)

    assert len(rows[0].samples) == 1
    assert not rows[1].samples
    assert "tensorrt: its library is not installed" in rows[1].failure
    assert latency.compare(rows) == {}


def test_a_worker_that_fails_while_it_draws_tells_why() -> None:
    with Worker(CALOTYPE) as worker, pytest.raises(PeerError, match="num_inference_steps"):
        worker.draw(Job("x", 0, 0))


def test_the_command_prints_a_table_and_writes_raw_samples(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "result.json"
    status, out, err = run(
        capsys, "--backend", "onnxruntime", "--against", "eager,tensorrt", "--checkpoint", str(checkpoint("plain")),
        "--steps", "2", "--runs", "2", "-o", str(output),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(output.read_text())

    assert status == 0
    assert err == ""  # nothing of progress in a pipe
    assert "calotype onnxruntime" in out
    assert "eager fp32" in out
    assert "could not be measured: calotype tensorrt: " in out
    assert [len(row["samples"]) for row in found["rows"]] == [2, 2, 0]
    assert found["machine"]["processor"]
    assert len(found["bundle"]["digest"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "eager"), "needs the checkpoint that the bundle was made from"),
        (
            ("--against", "eager", "--checkpoint", str(checkpoint("depth"))),
            "safety_checker/model.safetensors is missing",
        ),
        (("--runs", "0"), "--runs: expected at least 1, found 0"),
    ],
)
def test_bad_usage_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
