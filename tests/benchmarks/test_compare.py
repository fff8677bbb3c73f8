"""The same requests through eager diffusers and bundles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np

from calotype_bench import comparing, results
from calotype_bench.cli import main
from calotype_bench.jobs import Engine, Job
from calotype_bench.pictures import decode
from tests.bundles import bundle, checkpoint

PLAIN = str(bundle("plain"))


def run(*arguments: str) -> int:
    return main(["compare", PLAIN, "--against", str(checkpoint("plain")), "--threads", "1", *arguments])


@pytest.mark.slow
def test_the_command_compares_every_backend_with_eager_and_shows_the_noise_floor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prompts, output = tmp_path / "prompts.txt", tmp_path / "result.json"
    prompts.write_text("a red circle\n\n  a blue square on a wall\n")
    status = run(
        "--backend", "onnxruntime,openvino", "--prompts", str(prompts), "--seeds", "1,2", "--steps", "2",
        "--pictures", "1", "--noise", "fp64,bf16", "--beside", "eager-fp16", "-o", str(output),
    )  # fmt: skip
    out, err = capsys.readouterr()
    found = results.read(output)

    assert status == 0
    assert err == ""
    assert "eager bf16 (noise floor)" in out
    assert isinstance(found, results.Comparison)
    assert found.reference == "eager fp32"
    assert found.noise == ("eager fp64", "eager bf16", "eager fp16")
    assert found.failures == {}
    engines = ["calotype onnxruntime fp32", "calotype openvino fp32", *found.noise]
    assert [pair.engine for pair in found.pairs] == [engine for engine in engines for _ in range(4)]
    requests = [(prompt, seed) for prompt in ("a red circle", "a blue square on a wall") for seed in (1, 2)]
    assert [(pair.prompt, pair.seed) for pair in found.pairs] == requests * 5
    ours = [pair.fidelity for pair in found.pairs if pair.engine[:8] == "calotype"]
    noise = [pair.fidelity for pair in found.pairs if pair.engine == "eager bf16"]
    assert all(each.latents is not None and each.latents < 1e-4 and each.largest <= 1 for each in ours)
    assert all(each.latents is not None and each.latents > 1e-3 for each in noise)
    exact = [pair.fidelity.latents for pair in found.pairs if pair.engine == "eager fp64"]
    assert all(each is not None and 0 < each < 1e-4 for each in exact)
    assert [bool(pair.found) for pair in found.pairs] == [True, False, False, False] * 5
    assert [pair.request for pair in found.pairs] == [0, 1, 2, 3] * 5
    assert len(found.expected) == 1
    expected, drawn = (
        np.asarray(decode(each)).astype(int) for each in (*found.expected, found.pairs[0].found)
    )
    assert drawn.shape == (128, 128, 3)
    assert np.abs(drawn - expected).max() == found.pairs[0].fidelity.largest


def test_an_engine_that_cannot_draw_is_told_and_the_others_go_on() -> None:
    reference = Engine("eager", str(checkpoint("plain")), threads=1)
    missing = Engine("calotype", PLAIN, "tensorrt", "fp32", "cuda")
    *_, found = comparing.compare([reference, missing], [Job("x", 1, 0, width=128, height=128)], 0)
    assert found.pairs == found.expected == ()
    assert "its library is not installed" in found.failures["calotype tensorrt fp32"]


def test_what_was_compared_so_far_is_kept_beside_the_result_of_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output, compare = tmp_path / "result.json", comparing.compare

    def interrupted(*arguments: Any) -> Iterator[comparing.Outcome]:
        known = compare(*arguments)
        yield next(known)
        yield next(known)
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "compare", interrupted)
    output.write_text("of last week")
    asked = ("--backend", "onnxruntime,openvino", "--steps", "1", "-o", str(output))
    assert run(*asked) == 130
    assert output.read_text() == "of last week"
    found = results.read(tmp_path / "result.partial.json")
    assert isinstance(found, results.Comparison)
    assert {pair.engine for pair in found.pairs} == {"calotype onnxruntime fp32"}

    monkeypatch.setattr(comparing, "compare", compare)
    assert run(*asked) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_comparison_of_no_bundle_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--backend", "tensorrt", "--steps", "1", "--noise", "fp16") == 1
    out, err = capsys.readouterr()
    assert "calotype tensorrt fp32" in out
    assert "no bundle could be compared" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", "nowhere.txt"), "--prompts: nowhere.txt cannot be read"),
        (("--against", str(checkpoint("depth"))), "is missing"),
        (("--beside", "optimum-intl"), "did you mean optimum-intel?"),
        (("--backend", "opnvino"), "did you mean openvino?"),
        (("--guidance-scale", "1"), "--guidance-scale 1.0: expected more than 1"),
    ],
)
def test_bad_usage_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_precision_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--noise", "int8")
    assert "expected some of fp32, fp16, bf16, fp64, found 'int8'" in capsys.readouterr().err
