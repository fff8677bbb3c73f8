"""`calotype-bench latency`: what it prints, writes and refuses."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from calotype.bundle import Bundle
from calotype_bench import latency, results, rows
from calotype_bench.cli import _parser, main
from calotype_bench.order import SILENT
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
    assert found.machine["memory_bytes"] > 2**28
    assert found.warm_up == "two pictures of each job in every process"
    assert "not counted, to warm up: two pictures" in out
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert "calotype onnxruntime fp32, seconds over those of the fastest other engine" in out
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
        (("--backend", "onnxruntme"), "--backend onnxruntme: expected some of auto, onnxruntime, "),
        (("--guidance-scale", "nan"), "--guidance-scale nan: expected more than 1"),
        (("--checkpoint", str(checkpoint("depth"))), "safety_checker/model.safetensors is missing"),
        (("-o", "nowhere/x.json"), "-o nowhere/x.json: there is no folder nowhere"),
        (("-o", "."), "-o .: expected a file, found a folder"),
        (("--config", "nowhere"), "--config: expected the checkpoint that it describes"),
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
        (("--timeout", "0"), "expected seconds above 0, at most "),
        (("--timeout", "inf"), ", found 'inf'"),
        (("--timeout", "soon"), ", found 'soon'"),
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


def test_a_bundle_alone_is_compared_with_eager_in_fp32_where_its_checkpoint_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "result.json"
    status, out, _ = run(
        capsys, "--backend", "onnxruntime", "--checkpoint", str(checkpoint("plain")), "--steps", "1", "--runs", "1",
        "--no-operators", "-o", str(output),
    )  # fmt: skip
    assert status == 0
    assert "latents and pictures beside eager fp32" in out
    found = results.read(output)
    assert isinstance(found, results.Latency)
    (measurement,) = found.measurements
    assert measurement.reference == "eager fp32"
    (row,) = measurement.rows
    assert row.fidelity is not None
    assert row.fidelity.latents is not None
    assert 0 < row.fidelity.latents < 1e-4


def test_what_the_first_backend_turns_out_to_be_may_be_named_among_the_others() -> None:
    given = ["latency", str(bundle("plain")), "--against", "openvino,onnxruntime"]
    options = _parser().parse_args(given)
    found = rows.engines(options, [Bundle.open(bundle("plain"))])
    assert sorted(engine.backend for engine in found) == ["onnxruntime", "openvino"]


def test_a_checkpoint_on_the_hub_is_fetched_at_the_commit_that_the_bundle_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = Bundle.open(bundle("plain"))
    source = {**opened.manifest.source, "revision": "0123abc"}
    of_the_hub = dataclasses.replace(opened, manifest=dataclasses.replace(opened.manifest, source=source))
    asked: list[tuple[str, str]] = []

    def fetch(repository: str, revision: str, _: object) -> tuple[Path, str]:
        asked.append((repository, revision))
        return checkpoint("plain"), revision

    monkeypatch.setattr("calotype_export.hub.fetch", fetch)
    assert rows.checkpoint("owner/name", None, [of_the_hub], SILENT) == checkpoint("plain")
    assert asked == [("owner/name", "0123abc")]
    assert rows.checkpoint(str(checkpoint("plain")), None, [opened], SILENT) == checkpoint("plain")
    assert len(asked) == 1


@pytest.mark.parametrize(
    "arguments", [("--mask", "x.png"), ("--against", "opnvino"), ("--backend", "opnvino")]
)
def test_what_means_nothing_is_refused_before_gigabytes_are_fetched(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype_export.hub.fetch", lambda *_: pytest.fail("fetched"))
    assert run(capsys, "--checkpoint", "owner/name", *arguments)[0] == 2


def test_a_run_that_measured_nothing_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    status, out, err = run(capsys, "--backend", "tensorrt", "--runs", "1", "-o", str(output))
    assert status == 1
    assert "could not be measured: calotype tensorrt fp32: " in out
    assert "no engine could be measured" in err
    assert isinstance(results.read(output), results.Latency)


def test_what_was_measured_so_far_is_kept_beside_the_result_of_before(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, measure = tmp_path / "result.json", latency.measure

    def interrupted(*arguments: Any) -> Iterator[Any]:
        yield next(measure(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(latency, "measure", interrupted)
    output.write_text("of last week")
    status, _, _ = run(capsys, "--backend", "onnxruntime", "--steps", "1", "--runs", "2", "-o", str(output))
    assert status == 130
    assert output.read_text() == "of last week"
    found = results.read(tmp_path / "result.partial.json")
    assert isinstance(found, results.Latency)
    assert [len(row.samples) for row in found.measurements[0].rows] == [1]
    assert len([*tmp_path.iterdir()]) == 2


def test_a_rate_that_cannot_be_measured_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "--backend", "onnxruntime", "--device", "cuda:7")
    assert status == 1
    assert "the machine's rate in fp32 on cuda:7 cannot be measured: " in err
    assert "Error" in err


def test_a_terminal_is_told_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    status, _, err = run(capsys, "--backend", "onnxruntime", "--steps", "1", "--runs", "1", "--no-operators")
    assert status == 0
    assert "loading calotype onnxruntime fp32" in err
    assert err.endswith("measuring 3/3\n")


def test_another_checkpoint_of_the_same_layout_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoint("plain"), tmp_path / "checkpoint"))
    weights = next((copy / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    status, _, err = run(capsys, "--against", "eager", "--checkpoint", str(copy))
    assert status == 2
    assert f"{weights}: expected sha256 " in err


def test_two_bundles_of_one_precision_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", *[str(bundle("plain"))] * 2, "--backend", "onnxruntime"]) == 2
    assert "calotype onnxruntime fp32: named twice" in capsys.readouterr().err


def test_a_missing_bundle_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err
