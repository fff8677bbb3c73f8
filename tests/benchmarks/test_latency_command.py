"""`calotype-bench latency`: what it prints, writes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from calotype_bench import results
from calotype_bench.cli import main
from tests.bundles import bundle, checkpoint


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["latency", str(bundle("plain")), "--threads", "1", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


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
