"""What is made of samples: ratios, and what they are never printed without."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from calotype_bench import figures, report_text
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.measurement import Measurement, Row, beside_best, compare
from calotype_bench.results import Latency
from tests.benchmarks import made

JOB = Job("a red circle", 2, 0, width=128, height=128)


def row(seconds: float, fidelity: Fidelity | None, failure: str = "") -> Row:
    drawn = Drawn(seconds, {}, {}, 2, 0, 0, None, 0.0)
    return Row(Engine("eager", "x"), None, drawn, (drawn,) * 6 if seconds else (), failure, fidelity)


@pytest.mark.parametrize(
    "base", [None, Fidelity(0.3, 0.9, 12.0, 0.4, 200), Fidelity(0.34, 0.9, 20.8, 0.8, 90)]
)
def test_nothing_is_compared_with_what_drew_another_picture(base: Fidelity | None) -> None:
    near = Fidelity(1e-6, 1.0, 80.0, 1.0, 1)
    rows = (row(2, base), row(5, near), row(3, near))
    assert compare(rows) == {}
    texts = [figures.times(rows, {}, index) for index in range(3)]
    assert texts == ["another picture" if base else "not compared", *["no base to compare with"] * 2]


@pytest.mark.parametrize(
    ("latents", "psnr", "precision", "plausible"),
    [
        (9e-4, 80.0, "fp32", True),
        (2e-3, 60.0, "fp32", False),
        (4e-3, 40.0, "fp16", True),
        (0.34, 20.8, "fp16", False),
        (0.13, 29.5, "bf16", True),
        (0.3, 25.0, "bf16", False),
        (None, 25.0, "bf16", True),
        (0.0, None, "fp32", True),
        (0.1, 19.0, "bf16", False),
    ],
)
def test_how_far_pictures_are_apart_is_judged_by_precision(
    latents: float | None, psnr: float | None, precision: str, plausible: bool
) -> None:
    assert Fidelity(latents, 1.0, psnr, 1.0, 1).plausible(precision) is plausible


def test_ours_stand_beside_the_fastest_other_of_their_precision_part_by_part() -> None:
    near, far = Fidelity(1e-6, 1.0, 80.0, 1.0, 1), Fidelity(1.0, 0.3, 12.0, 0.4, 200)

    def made(name: str, dtype: str, total: float, step: float, fidelity: Fidelity = near) -> Row:
        drawn = Drawn(total, {"unet_step": step}, {}, 2, 0, 0, None, 0.0)
        return Row(Engine(name, "x", "", dtype), None, drawn, (drawn,) * 6, "", fidelity)

    rows = [
        made("calotype", "fp32", 2.0, 1.5), made("calotype", "bf16", 1.0, 0.5), made("eager", "fp32", 4.0, 1.0),
        made("optimum-intel", "fp32", 2.5, 2.0), made("compile", "fp32", 0.1, 0.1, far),
        made("optimum-intel", "bf16", 0.8, 0.4, far),
    ]  # fmt: skip
    found = beside_best(rows)
    assert [*found] == ["calotype fp32"]  # nothing of bf16 drew the picture
    told = {part: (best.label, best.ratio.value) for part, best in found["calotype fp32"].items()}
    assert told == {"total": ("optimum-intel fp32", 0.8), "unet_step": ("eager fp32", 1.5)}
    text = report_text.beside(Measurement(Job("x", 2, 0), 6, "eager fp32", tuple(rows)))
    assert "unet step                   1.500 (1.500 to 1.500)" in text
    assert "latents 1.0e-06, pictures 80.0 dB from eager fp32" in text  # no ratio without its distance


def test_a_picture_is_also_compared_without_its_checker_which_some_engines_do_not_run() -> None:
    near = Fidelity(1e-6, 1.0, 80.0, 1.0, 1)

    def made(name: str, parts: dict[str, float]) -> Row:
        drawn = Drawn(sum(parts.values()), parts, {}, 2, 0, 0, None, 0.0)
        return Row(Engine(name, "x"), None, drawn, (drawn,) * 6, "", near)

    ours = made("calotype", {"unet_step": 2.0, "safety_checker": 1.0})
    others = [
        made("eager", {"unet_step": 4.0, "safety_checker": 4.0}),
        made("optimum-onnx", {"unet_step": 2.5}),
    ]
    beside = beside_best([ours, *others])["calotype fp32"]
    told = {part: (best.label, best.ratio.value) for part, best in beside.items()}
    assert told["total"] == ("optimum-onnx fp32", 1.2)
    assert told["unchecked"] == ("optimum-onnx fp32", 0.8)
    assert told["safety_checker"] == ("eager fp32", 0.25)

    # on a GPU eager diffusers tells its programs by the GPU's clock alone
    on_gpu = tuple(dataclasses.replace(each, parts={}, device_parts=each.parts) for each in others[0].samples)
    on_gpu_too = dataclasses.replace(others[0], samples=on_gpu)
    assert on_gpu_too.spent("unchecked") == others[0].spent("unchecked") == [4.0] * 6

    floors = {"fp32": {"unet_step": 1.0, "safety_checker": 0.5, "total": 1.5}}
    assert figures.least(on_gpu_too, floors) == 1.5
    assert [figures.least(each, floors) for each in (ours, *others)] == [1.5, 1.5, 1.0]
    assert figures.least(dataclasses.replace(ours, samples=()), floors) == 1.5
    assert figures.least(ours, {}) is None


def test_runs_are_paired_within_their_processes() -> None:
    near = Fidelity(1e-6, 1.0, 80.0, 1.0, 1)

    def made(seconds: Sequence[tuple[float, int]]) -> Row:
        drawn = tuple(Drawn(each, {}, {}, 2, 0, 0, None, 0.0, opening) for each, opening in seconds)
        return Row(Engine("eager", "x"), None, drawn[0], drawn, "", near)

    base = made([(1, 0), (1, 0), (10, 1), (10, 1)])
    lost = made([(2, 0), (20, 1), (20, 1)])  # one run of the first process failed
    assert str(compare([base, lost])[1]) == "2.000 (all of 2.000 to 2.000)"
    assert base.interval().draws == 2  # processes, and not runs


def test_joules_are_the_median_of_the_samples_that_tell() -> None:
    drawn = [Drawn(1.0, {}, {}, 2, 0, 0, joules, 0.0) for joules in (9.0, None, 1.0, 2.0)]
    found = dataclasses.replace(row(1.0, None), samples=tuple(drawn))
    assert found.joules() == 2
    assert dataclasses.replace(found, samples=tuple(drawn[1:2])).joules() is None


def test_another_version_of_the_library_in_a_peer_is_told() -> None:
    def made(name: str, versions: dict[str, str]) -> Row:
        engine = Engine(name, "x")
        return dataclasses.replace(row(1.0, None), engine=engine, ready=Ready("", 0.1, 0.1, versions))

    ours = made("calotype", {"openvino": "1", "numpy": "1"})
    theirs = made("optimum-intel", {"openvino": "2", "numpy": "2"})
    found = latency_of(Measurement(JOB, 6, "", (ours, theirs)))
    assert figures.other_versions(found) == ["optimum-intel fp32 has openvino 2, and ours 1"]
    same = dataclasses.replace(theirs, engine=Engine("eager", "x"), ready=ours.ready)
    assert figures.other_versions(latency_of(Measurement(JOB, 6, "", (ours, same)))) == []


def latency_of(measurement: Measurement) -> Latency:
    return dataclasses.replace(made.latency(), measurements=(measurement,))


def test_ratios_are_to_the_first_row_that_could_be_measured_and_never_without_fidelity() -> None:
    near, far = Fidelity(1e-6, 1.0, 80.0, 1.0, 1), Fidelity(1.0, 0.3, 12.0, 0.4, 200)
    rows = (row(0, None, "it is gone"), row(2, near), row(5, near), row(3, far), row(4, None))
    ratios = compare(rows)
    texts = [figures.times(rows, ratios, index) for index in range(1, 5)]

    assert texts == ["1", "2.500 (2.500 to 2.500)", "another picture", "not compared"]
    table = report_text.table(Measurement(JOB, 6, "eager fp32", rows))
    assert "could not be measured: it is gone" in table


def test_a_measurement_that_was_stopped_tells_how_much_of_it_there_is() -> None:
    rows = (row(1.0, None), row(2.0, None))
    drawn = len(rows[0].samples)

    assert Measurement(Job("", 1, 0), drawn, "", rows).order(False).startswith(f"{drawn} runs of each")
    assert (
        Measurement(Job("", 1, 0), 9, "", rows).order(False).startswith(f"{drawn} of 9 runs of each in turn")
    )
    assert (
        Measurement(Job("", 1, 0), 9, "", rows)
        .order(True)
        .startswith(f"{drawn} of 9 runs of each, loaded one at")
    )
