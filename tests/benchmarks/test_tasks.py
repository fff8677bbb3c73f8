"""The other three pipelines of diffusers: pictures to start from, masks and depth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from calotype.bundle import Bundle
from calotype_bench import floor, latency, peers, results
from calotype_bench.cli import main
from calotype_bench.environments import PeerError
from calotype_bench.jobs import DEPTH_TO_IMAGE, IMAGE_TO_IMAGE, INPAINTING, TEXT_TO_IMAGE, Engine, Job
from calotype_bench.measurement import Row
from calotype_bench.order import Order
from calotype_bench.tables import bring_up_to_date
from tests.bundles import bundle, checkpoint

SIZE = 128


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Noise on a slope, so that no part of it looks like another."""
    slope = np.linspace(0, 160, SIZE)[:, None, None]
    noise = np.random.default_rng(0).uniform(0, 90, (SIZE, SIZE, 3))
    Image.fromarray((slope + noise).astype(np.uint8)).save(tmp_path / "image.png")
    return str(tmp_path / "image.png")


@pytest.fixture
def mask(tmp_path: Path) -> str:
    """White in the left half."""
    white = np.zeros((SIZE, SIZE), np.uint8)
    white[:, : SIZE // 2] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


def drawn(name: str, task: str, job: Job) -> tuple[Row, Row]:
    """Our row and eager diffusers', of one run."""
    engines = [
        Engine("calotype", str(bundle(name)), "onnxruntime", threads=1, task=task),
        Engine("eager", str(checkpoint(name)), threads=1, task=task),
    ]
    *_, (found,) = latency.measure(engines, [job], Order(1))
    ours, eager = found.rows
    assert (ours.failure, eager.failure) == ("", "")
    return ours, eager


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "pndm"])
@pytest.mark.parametrize(
    ("name", "task", "strength"),
    [
        ("plain", IMAGE_TO_IMAGE, 0.6),
        ("plain", INPAINTING, 1.0),
        ("plain", INPAINTING, 0.6),
        ("inpainting", INPAINTING, 1.0),
        ("inpainting", INPAINTING, 0.6),
        ("depth", DEPTH_TO_IMAGE, 0.6),
    ],
)
def test_every_task_is_drawn_as_eager_diffusers_draws_it(
    name: str, task: str, strength: float, scheduler: str, image: str, mask: str
) -> None:
    job = Job("a red circle", 5, 3, scheduler, width=SIZE, height=SIZE, image=image, strength=strength)
    if task == INPAINTING:
        job = dataclasses.replace(job, mask=mask)
    ours, eager = drawn(name, task, job)

    assert ours.fidelity is not None
    assert ours.fidelity.latents is not None
    assert 0 < ours.fidelity.latents < 1e-4
    looking = {"vae_encoder"} | ({"depth_estimator"} if task == DEPTH_TO_IMAGE else set[str]())
    steps = int(5 * strength)
    for row in (ours, eager):
        (sample,) = row.samples
        assert {"text_encoder", "unet_step", "vae_decoder", "runtime", *looking} <= {*sample.parts}
        assert ("depth_estimator" in sample.parts) == (task == DEPTH_TO_IMAGE)
        assert all(seconds > 0 for seconds in sample.parts.values())
    assert ours.samples[0].evaluations == eager.samples[0].evaluations
    assert ours.samples[0].evaluations in (steps, steps + (scheduler == "pndm"))


def test_batches_of_pictures_are_drawn_from_one(image: str) -> None:
    job = Job("a red circle", 2, 3, batch=2, width=SIZE, height=SIZE, image=image, strength=0.5)
    ours, _ = drawn("plain", IMAGE_TO_IMAGE, job)
    assert ours.fidelity is not None
    assert ours.fidelity.latents is not None
    assert ours.fidelity.latents < 1e-4


@pytest.mark.parametrize(
    ("strength", "steps"), [(1.0, 1), (0.8, 2), (0.5, 2), (0.3, 4), (0.15, 7), (0.01, 100)]
)
def test_the_shortest_job_takes_one_step(strength: float, steps: int) -> None:
    short = Job("x", 50, 0, image="x.png", strength=strength).shortest()
    assert (short.steps, int(short.steps * strength)) == (steps, 1)


@pytest.mark.parametrize("name", ["optimum-intel", "optimum-onnx", "stable-diffusion.cpp"])
def test_a_peer_that_has_no_pipeline_for_a_task_says_so_and_is_not_installed(name: str) -> None:
    engine = Engine(name, "checkpoint", task=DEPTH_TO_IMAGE)
    with pytest.raises(PeerError, match=f"{name} fp32: it has no pipeline for depth-to-image"):
        peers.prepare(engine, pytest.fail)


def test_what_looks_at_pictures_counts_where_there_is_one() -> None:
    plain, inpainting = (Bundle.open(bundle(name)) for name in ("plain", "inpainting"))
    depth = Bundle.open(bundle("depth"))
    text, from_image = Job("x", 2, 0), Job("x", 2, 0, batch=3, image="x.png", strength=0.5)

    assert "vae_encoder" not in floor.operations(plain, text, 2)
    once = floor.operations(plain, from_image, 1)["vae_encoder"]
    assert once.total() > 0  # of the one picture that all three start from
    once = floor.operations(depth, from_image, 1)["depth_estimator"]
    assert once.total() > 0
    assert floor.operations(depth, dataclasses.replace(from_image, batch=2), 1)["depth_estimator"] == once
    painted = dataclasses.replace(from_image, mask="y.png")
    all_noise = dataclasses.replace(painted, strength=1.0)
    masked, twice = (floor.operations(inpainting, job, 1)["vae_encoder"] for job in (all_noise, painted))
    assert twice.total() == 2 * masked.total()
    assert floor.operations(plain, painted, 1)["vae_encoder"].total() > 0


def run(name: str, *arguments: str) -> int:
    return main(["latency", str(bundle(name)), "--backend", "onnxruntime", "--threads", "1", *arguments])


@pytest.mark.slow
def test_the_command_tells_the_task_its_parts_and_who_cannot(
    image: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "result.json"
    status = run(
        "depth", "--image", image, "--steps", "2", "--runs", "1", "--checkpoint", str(checkpoint("depth")),
        "--against", "eager,optimum-intel", "--no-operators", "--prompt", "a red circle", "--seed", "5",
        "-o", str(output),
    )  # fmt: skip
    out = capsys.readouterr().out
    found = results.read(output)

    assert status == 0
    assert isinstance(found, results.Latency)
    (measurement,) = found.measurements
    assert measurement.task == DEPTH_TO_IMAGE
    assert (measurement.job.prompt, measurement.job.seed, measurement.job.strength) == (
        "a red circle",
        5,
        0.8,
    )
    assert "depth-to-image, 1 x 128x128, 2 steps of ddim at strength 0.8" in out
    assert "could not be measured: optimum-intel fp32: it has no pipeline for depth-to-image" in out
    assert {"vae_encoder", "depth_estimator"} <= {*found.floors[0]["fp32"]}
    table = bring_up_to_date(f"<!-- table latency+beside {output.name} -->\n<!-- end -->", tmp_path)
    assert "one picture of 128x128, depth-to-image at strength 0.8, 2 steps of ddim (one evaluation" in table
    assert "| depth estimator |" in table


@pytest.mark.slow
def test_pictures_of_a_task_are_compared(image: str, mask: str, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    status = main([
        "compare", str(bundle("inpainting")), "--backend", "onnxruntime", "--threads", "1", "--steps", "2",
        "--against", str(checkpoint("inpainting")), "--image", image, "--mask", mask, "-o", str(output),
    ])  # fmt: skip
    found = results.read(output)
    assert status == 0
    assert isinstance(found, results.Comparison)
    ours, noise = (pair.fidelity.latents for pair in found.pairs)
    assert ours is not None
    assert noise is not None
    assert ours < 1e-4 < 1e-3 < noise


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("plain", ("--mask", "MASK"), "--mask: there is no picture to paint into"),
        ("plain", ("--strength", "0.5"), "--strength: there is no picture to start from"),
        ("plain", ("--image", "nowhere.png"), "--image: nowhere.png is no picture that can be read"),
        (
            "plain",
            ("--image", "IMAGE", "--strength", "0"),
            "--strength 0.0: expected more than 0, and 1 at most",
        ),
        ("plain", ("--image", "IMAGE", "--strength", "nan"), "--strength nan: expected more than 0"),
        (
            "plain",
            ("--image", "IMAGE", "--steps", "20,1"),
            "--steps 1 at --strength 0.8: expected at least one",
        ),
        ("inpainting", (), "an inpainting bundle: expected --image and --mask, found neither"),
        ("inpainting", ("--image", "IMAGE"), "expected --image and --mask, found --image"),
        ("depth", (), "a depth bundle: expected --image, found none"),
        ("depth", ("--image", "IMAGE", "--mask", "MASK"), "expected --image, found --image and --mask"),
    ],
)
def test_pictures_that_a_bundle_cannot_use_are_refused(
    name: str,
    arguments: tuple[str, ...],
    message: str,
    image: str,
    mask: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [{"IMAGE": image, "MASK": mask}.get(word, word) for word in arguments]
    assert run(name, *given) == 2
    assert message in capsys.readouterr().err


def test_pictures_of_another_size_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 32)).save(tmp_path / "small.png")
    assert run("plain", "--image", str(tmp_path / "small.png")) == 2
    assert "small.png: expected 128x128, found 64x32" in capsys.readouterr().err


def test_float64_shows_noise_of_text_to_image_alone(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--against", str(checkpoint("plain")), "--noise", "fp64", "--image", image]
    assert main(["compare", str(bundle("plain")), *given]) == 2
    assert (
        "--noise fp64: diffusers draws other noise in float64 for image-to-image" in capsys.readouterr().err
    )


def test_results_from_before_tasks_are_of_text_to_image() -> None:
    found = results.read(Path(__file__).parents[2] / "benchmarks" / "results" / "earlier-demo.json")
    assert isinstance(found, results.Latency)
    assert found.measurements[0].task == TEXT_TO_IMAGE
