"""Engines in processes of their own, drawing in turn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from calotype_bench import latency, report_text, results
from calotype_bench.cli import main
from calotype_bench.conversation import PeerError, Worker
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job
from calotype_bench.latency import Measurement, Reports, Row
from tests.bundles import bundle, checkpoint

JOB = Job("a red circle", 2, 0, width=128, height=128)
CALOTYPE = Engine("calotype", str(bundle("plain")), "onnxruntime", threads=1)
EAGER = Engine("eager", str(checkpoint("plain")), threads=1)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["latency", str(bundle("plain")), "--threads", "1", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_engines_draw_in_turn_and_the_same_picture() -> None:
    seen: list[tuple[int, int]] = []
    more = dataclasses.replace(JOB, steps=3, batch=2)
    found = list(
        latency.measure([CALOTYPE, EAGER], [JOB, more], 3, Reports(lambda *progress: seen.append(progress)))
    )

    assert seen == [(done, 16) for done in (*range(1, 17), 16)]
    for measurement, evaluations in zip(found, (2, 3), strict=True):
        calotype, eager = measurement.rows
        assert measurement.reference == "eager fp32"
        for row in measurement.rows:
            assert len(row.samples) == 3
            assert row.ready is not None
            assert row.first is not None
            assert row.ready.import_seconds > 0
            for sample in row.samples:
                assert sample.evaluations == evaluations
                assert sample.resident_bytes > 2**20
                assert sum(sample.parts.values()) == pytest.approx(sample.seconds, rel=0.2)
                assert sample.parts["unet_step"] > 0
                assert sample.device_parts == {}
                assert 0 < sample.measuring_seconds < 0.01 * sample.seconds
        assert eager.fidelity is not None
        assert calotype.fidelity is not None
        assert eager.fidelity.latents == 0
        assert eager.fidelity.psnr is None
        assert calotype.fidelity.latents is not None
        assert 0 < calotype.fidelity.latents < 1e-4
        assert calotype.fidelity.ssim > 0.9999
        assert latency.compare(measurement.rows)[1].value > 0


def test_an_engine_that_cannot_be_loaded_is_a_row_that_says_why() -> None:
    missing = Engine("calotype", str(bundle("plain")), "tensorrt", device="cuda")
    (found,) = latency.measure([CALOTYPE, missing], [JOB], 1)

    assert found.reference == "calotype onnxruntime fp32"
    assert len(found.rows[0].samples) == 1
    assert not found.rows[1].samples
    assert "tensorrt: its library is not installed" in found.rows[1].failure
    assert latency.compare(found.rows) == {}


def test_one_engine_at_a_time_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    open_now: list[Worker] = []
    most: list[int] = []
    start, close = Worker.__init__, Worker.close

    def opened(self: Worker, *arguments: Any) -> None:
        start(self, *arguments)
        open_now.append(self)
        most.append(len(open_now))

    def closed(self: Worker) -> None:
        close(self)
        open_now.remove(self)

    monkeypatch.setattr(Worker, "__init__", opened)
    monkeypatch.setattr(Worker, "close", closed)
    (found,) = latency.measure([CALOTYPE, EAGER], [JOB], 2, one_at_a_time=True)

    assert most == [1] * 4
    assert open_now == []
    for row in found.rows:
        assert [sample.evaluations for sample in row.samples] == [2, 2]
        assert row.first is not None
        assert row.first.evaluations == 1
        assert row.fidelity is not None
        assert row.fidelity.latents is not None
        assert row.fidelity.latents < 1e-4


def test_pictures_of_another_size_are_a_failure_and_no_crash() -> None:
    smaller = Engine("eager", str(checkpoint("plain")), threads=1)
    (found,) = latency.measure([CALOTYPE, smaller], [dataclasses.replace(JOB, width=64)], 1)
    assert found.rows[0].failure == "pictures: expected (1, 128, 64, 3), found (1, 128, 128, 3)"
    text = report_text.table(found)
    assert "could not be measured: pictures: expected" in text
    assert "not compared" not in text.splitlines()[3]  # the base of ratios is itself
    assert text.splitlines()[4].count("not compared") == 0


def row(seconds: float, fidelity: Fidelity | None, failure: str = "") -> Row:
    drawn = Drawn(seconds, {}, {}, 2, 0, 0, None, 0.0)
    return Row(Engine("eager", "x"), None, drawn, (drawn,) * 6 if seconds else (), failure, fidelity)


def test_ratios_are_to_the_first_row_that_could_be_measured_and_never_without_fidelity() -> None:
    near, far = Fidelity(1e-6, 1.0, 80.0, 1.0, 1), Fidelity(1.0, 0.3, 12.0, 0.4, 200)
    rows = (row(0, None, "it is gone"), row(2, near), row(5, near), row(3, far), row(4, None))
    ratios = latency.compare(rows)
    texts = [report_text.times(rows, ratios, index) for index in range(1, 5)]

    assert texts == ["1", "2.500 (2.500 to 2.500)", "another picture", "not compared"]
    table = report_text.table(Measurement(JOB, 6, "eager fp32", rows))
    assert "could not be measured: it is gone" in table


def test_a_worker_that_is_killed_says_by_what(tmp_path: Path) -> None:
    with Worker(CALOTYPE) as worker:
        worker._process.kill()
        with pytest.raises(PeerError, match="it was ended by SIGKILL"):
            worker.draw(JOB)


def test_a_worker_that_fails_while_it_draws_tells_why() -> None:
    with Worker(CALOTYPE) as worker, pytest.raises(PeerError, match="num_inference_steps"):
        worker.draw(Job("x", 0, 0))


def test_the_command_prints_tables_and_writes_raw_samples(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "result.json"
    status, out, err = run(
        capsys, "--backend", "onnxruntime", "--against", "eager,tensorrt", "--checkpoint", str(checkpoint("plain")),
        "--steps", "2", "--batch", "1,2", "--runs", "2", "-o", str(output),
    )  # fmt: skip
    found = results.read(output)

    assert status == 0
    assert err == ""  # nothing of progress in a pipe
    for text in (
        "calotype onnxruntime fp32",
        "eager fp32",
        "2 x 128x128, 2 steps of ddim",
        "percent of the floor",
    ):
        assert text in out
    assert "could not be measured: calotype tensorrt fp32: " in out
    assert "calotype onnxruntime fp32, unet_step, " in out
    assert isinstance(found, results.Latency)
    assert [[len(row.samples) for row in each.rows] for each in found.measurements] == [[2, 2, 0]] * 2
    assert found.machine["processor"]
    assert len(found.bundles[0]["digest"]) == 64
    assert found.command[:2] == ("calotype-bench", "latency")
    assert set(found.operators["calotype onnxruntime fp32"]) == {"unet_step", "vae_decoder"}
    assert found.floors[1]["fp32"]["unet_step"] == pytest.approx(2 * found.floors[0]["fp32"]["unet_step"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "eager"), "needs the checkpoint that the bundle was made from"),
        (
            ("--against", "eager", "--checkpoint", str(checkpoint("depth"))),
            "safety_checker/model.safetensors is missing",
        ),
        (("--against", "opnvino"), "did you mean"),
        (("--backend", "onnxruntime", "--against", "onnxruntime"), "calotype onnxruntime fp32: named twice"),
        (("-o", "nowhere/x.json"), "-o nowhere/x.json: there is no folder nowhere"),
    ],
)
def test_bad_usage_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runs", "0"), "expected a number of at least 1, found '0'"),
        (("--steps", "2,x"), "expected a number of at least 1, found 'x'"),
        (("--batch", "-1"), "expected a number of at least 1, found '-1'"),
        (("--steps", ","), "expected at least one, found ','"),
        (("--device", "foo"), "expected cpu, cuda or cuda:<number>, found 'foo'"),
    ],
)
def test_what_argparse_can_check_is_checked_there(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(capsys, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
