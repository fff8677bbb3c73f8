"""The `calotype` command: data to stdout, errors to stderr, exit status 0, 1 or 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype.cli import main
from calotype.images import read_parameters
from calotype.manifest import batches_for
from calotype.pipeline import Pipeline
from tests.bundles import bundle

Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def generate(name: str, output: Path, *more: str) -> list[str]:
    return [
        "generate", str(bundle(name)), "a red circle", "-o", str(output), "--steps", "2", "--seed", "3", *more,
    ]  # fmt: skip


def test_generate_writes_a_picture_that_tells_how_it_was_made(capsys: Captured, tmp_path: Path) -> None:
    status, out, err = run(capsys, *generate("plain", tmp_path / "out.png", "--scheduler", "euler"))

    assert (status, out.strip(), err) == (0, str(tmp_path / "out.png"), "")
    parameters = read_parameters(tmp_path / "out.png")
    assert (parameters["prompt"], parameters["seed"], parameters["scheduler"]) == ("a red circle", 3, "euler")


def test_generate_prints_json_with_seeds_and_timings(capsys: Captured, tmp_path: Path) -> None:
    status, out, _ = run(capsys, *generate("plain", tmp_path / "out.png", "--count", "2", "--json"))
    data = json.loads(out)

    assert status == 0
    assert data["images"] == [str(tmp_path / "out-0.png"), str(tmp_path / "out-1.png")]
    assert data["seeds"] == [3]
    assert data["timings"]["unet_step"] > 0


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [2]), (3, [1, 2])])
def test_generate_loads_the_batch_sizes_that_it_draws_with(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, sizes: list[int]
) -> None:
    given: list[Any] = []
    load = Pipeline.load

    def loading(*arguments: Any, batches: Any, **options: Any) -> Pipeline:
        given.append(batches)
        return load(*arguments, batches=batches, **options)

    monkeypatch.setattr(Pipeline, "load", loading)
    assert run(capsys, *generate("plain", tmp_path / "out.png", "--count", str(count)))[0] == 0
    assert given == [sizes]
    assert batches_for(7, (2, 4)) == [4, 2, 2]


def test_the_command_draws_in_all_four_ways(capsys: Captured, tmp_path: Path) -> None:
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(tmp_path / "image.png")
    half = np.zeros((128, 128), np.uint8)
    half[:64] = 255
    Image.fromarray(half).save(tmp_path / "mask.png")
    image, mask = ("--image", str(tmp_path / "image.png")), ("--mask", str(tmp_path / "mask.png"))
    ways = {
        "text": ("plain",),
        "image": ("plain", *image, "--strength", "0.5"),
        "mask": ("inpainting", *image, *mask),
        "depth": ("depth", "--depth", str(tmp_path / "mask.png")),
    }
    for way, (name, *more) in ways.items():
        assert run(capsys, *generate(name, tmp_path / f"{way}.png", *more))[0] == 0

    pictures = {(tmp_path / f"{way}.png").read_bytes() for way in ways}
    assert len(pictures) == 4


def test_a_prompt_that_is_cut_is_said_on_stderr(capsys: Captured, tmp_path: Path) -> None:
    arguments = generate("plain", tmp_path / "out.png")
    arguments[2] = "word " * 100

    status, out, err = run(capsys, *arguments)

    assert status == 0
    assert "the prompt was cut; this fell off: word" in err
    assert out.strip() == str(tmp_path / "out.png")


def test_inspect_shows_a_bundle_and_its_parity(capsys: Captured) -> None:
    status, out, _ = run(capsys, "inspect", str(bundle("plain")))

    assert status == 0
    assert "unet_step batch 2, fp32" in out
    assert "parity with eager diffusers" in out


def test_inspect_prints_the_manifest_as_json(capsys: Captured) -> None:
    data = json.loads(run(capsys, "inspect", "--json", str(bundle("depth")))[1])

    assert data["conditioning"] == ["depth"]


def test_inspect_reads_a_picture(capsys: Captured, tmp_path: Path) -> None:
    run(capsys, *generate("plain", tmp_path / "out.png"))

    status, out, _ = run(capsys, "inspect", str(tmp_path / "out.png"))

    assert status == 0
    assert "prompt: a red circle" in out


def test_tokens_shows_pieces_ids_and_what_falls_off(capsys: Captured) -> None:
    status, out, _ = run(capsys, "tokens", str(bundle("plain")), "a circle " * 60)

    assert status == 0
    assert "tokens of at most 75" in out
    assert "cut: " in out


def test_schedule_prints_a_row_an_evaluation(capsys: Captured) -> None:
    data = json.loads(
        run(capsys, "schedule", "--json", str(bundle("plain")), "--scheduler", "lms", "--steps", "30")[1]
    )

    assert data["scheduler"] == "LMSDiscreteScheduler"
    assert len(data["timesteps"]) == len(data["write"]) == 30


def test_schedule_plots_the_noise_levels(capsys: Captured, tmp_path: Path) -> None:
    plot = tmp_path / "noise.png"

    status, out, _ = run(capsys, "schedule", str(bundle("plain")), "--steps", "5", "--plot", str(plot))

    assert status == 0
    assert "6 UNet evaluations" in out
    with Image.open(plot) as picture:
        assert picture.size[0] > 500


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["inspect", "nowhere"], 1, "nowhere is no bundle"),
        (["schedule", "BUNDLE", "--steps", "0"], 2, "`num_inference_steps`: expected a whole number"),
        (["schedule", "BUNDLE", "--scheduler", "eulr"], 2, "euler"),
        (["generate", "BUNDLE", "x", "-o", "x.jpg"], 2, "expected a .png file, found x.jpg"),
        (["generate", "BUNDLE", "x", "-o", "no/where/x.png"], 2, "does not exist"),
        (["generate", "BUNDLE", "x", "-o", "x.png", "--image", "gone.png"], 2, "gone.png"),
        (
            ["generate", "BUNDLE", "x", "-o", "x.png", "--backend", "onnxruntim"],
            2,
            "did you mean onnxruntime?",
        ),
        (["generate", "BUNDLE", "x", "-o", "x.png", "--device", "gpu"], 2, "device: expected cpu, cuda"),
        (
            ["generate", "BUNDLE", "x", "-o", "x.png", "--threads", "0"],
            2,
            "threads: expected at least 1, found 0",
        ),
        (["schedule", "BUNDLE", "--plot", "noise.foo"], 2, "a plot is written as png, svg, pdf"),
        (
            ["generate", "BUNDLE", "x", "-o", "x.png", "--strength", "2"],
            2,
            "`strength`: expected a number from 0 to 1",
        ),
    ],
)
def test_what_is_wrong_is_said_on_stderr(
    capsys: Captured, arguments: list[str], status: int, message: str
) -> None:
    found, out, err = run(capsys, *(str(bundle("plain")) if word == "BUNDLE" else word for word in arguments))

    assert (found, out) == (status, "")
    assert message in err


def test_a_backend_whose_library_is_missing_is_no_bad_usage(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.backends.installed", lambda: ())

    status, _, err = run(capsys, *generate("plain", tmp_path / "out.png", "--backend", "openvino"))

    assert (status, "backend openvino: its library is not installed" in err) == (1, True)


def test_a_picture_that_cannot_be_written_is_a_failure_and_no_bad_usage(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    status, out, err = run(capsys, *generate("plain", tmp_path / "out.png"))

    assert (status, out) == (1, "")
    assert "out.png: the picture could not be written: No space left on device" in err


def test_a_picture_that_the_safety_checker_blackens_is_said_on_stderr(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.vision.flagged", lambda *_: [True])

    status, _, err = run(capsys, *generate("plain", tmp_path / "out.png"))

    assert status == 0
    assert f"warning: {tmp_path / 'out.png'}: the safety checker took offence" in err


@pytest.mark.parametrize("sink", ["pipe", "/dev/full"])
def test_output_that_nobody_reads_gives_no_traceback(sink: str) -> None:
    if sink == "pipe":
        reader, output = os.pipe()
        os.close(reader)
    else:
        output = os.open(sink, os.O_WRONLY)
    command = [sys.executable, "-m", "calotype", "inspect", str(bundle("plain"))]
    found = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    os.close(output)

    said = "calotype: standard output could not be written: No space left on device\n"
    assert (found.returncode, found.stderr) == ((0, "") if sink == "pipe" else (1, said))


def test_an_unknown_option_is_bad_usage(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "--nonsense"])

    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err
