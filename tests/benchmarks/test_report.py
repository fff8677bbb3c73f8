"""One page about results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calotype.errors import RequestError
from calotype_bench import figures, report_text, results, waterfall
from calotype_bench.cli import main
from calotype_bench.fidelity import Fidelity
from tests.benchmarks import made

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def found(tmp_path: Path) -> tuple[Path, Path]:
    latency, comparison = tmp_path / "latency.json", tmp_path / "comparison.json"
    results.write(made.latency(), latency)
    results.write(made.comparison(), comparison)
    return latency, comparison


@pytest.fixture
def page(found: tuple[Path, Path], tmp_path: Path) -> Path:
    output = tmp_path / "report.html"
    assert main(["report", *map(str, found), "-o", str(output)]) == 0
    return output


def test_a_page_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    addresses = [part.split('"')[0] for part in text.split('src="')[1:] + text.split('href="')[1:]]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "<script" not in text
    assert "url(" not in text.replace("url(#", "")


def test_a_curve_has_distances_and_leaves_out_what_drew_another_picture(page: Path, tmp_path: Path) -> None:
    near = "From eager fp32: calotype openvino fp32 latents 1.0e-06, pictures 80.0 dB; eager fp32 "
    assert near in page.read_text("utf-8")
    assert "Left out, since" not in page.read_text("utf-8")
    found = made.latency()
    far = Fidelity(0.9, 0.5, 9.0, 0.2, 200)
    measurements = tuple(
        dataclasses.replace(each, rows=(dataclasses.replace(each.rows[0], fidelity=far), *each.rows[1:]))
        for each in found.measurements
    )
    results.write(dataclasses.replace(found, measurements=measurements), tmp_path / "far.json")
    assert main(["report", str(tmp_path / "far.json"), "-o", str(tmp_path / "far.html")]) == 0
    written = (tmp_path / "far.html").read_text("utf-8")
    assert (
        "Left out, since these are other pictures: calotype openvino fp32 at 10, calotype openvino fp32 at 20."
        in written
    )
    assert near not in written


def test_what_a_machine_tells_of_itself_is_on_the_page(tmp_path: Path) -> None:
    told = {"stolen": 0.025, "energy": ["package-0", "GPU"], "clock_mhz": 1980}
    found = made.latency()
    results.write(dataclasses.replace(found, machine={**found.machine, **told}), tmp_path / "told.json")
    assert main(["report", str(tmp_path / "told.json"), "-o", str(tmp_path / "told.html")]) == 0
    written = (tmp_path / "told.html").read_text("utf-8")
    assert (
        "2.5 % of the cores' time went to others; joules are of package-0, GPU; the GPU's clock goes to 1980 MHz."
        in written
    )


def test_what_could_not_be_measured_says_why(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "could not be measured: it is not installed" in text
    assert "could not draw: &lt;no&gt;" in text


def test_results_are_read_as_they_were_written(found: tuple[Path, Path]) -> None:
    assert results.read(found[0]) == made.latency()
    assert results.read(found[1]) == made.comparison()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "[" * 100000, '{"format": 1, "kind": "latency"}', '{"format": 2, "kind": "latency"}'],
)
def test_other_files_are_no_results(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(RequestError, match=r"other\.json"):
        results.read(path)
    assert main(["report", str(path), "-o", str(tmp_path / "x.html")]) == 2


def test_a_folder_of_results_may_hold_figures_of_other_commands(
    found: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"machine": {}, "seconds": 1}')
    output = tmp_path / "report.html"
    assert main(["report", str(other), *map(str, found), "-o", str(output)]) == 0
    assert f"left out: {other}" in capsys.readouterr().err
    assert main(["report", str(other), "-o", str(output)]) == 2
    assert "no result of calotype-bench" in capsys.readouterr().err


def test_the_projects_own_results_make_a_page(tmp_path: Path) -> None:
    results_of = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    output = tmp_path / "report.html"
    assert main(["report", *map(str, results_of), "-o", str(output)]) == 0
    text = output.read_text("utf-8")
    assert "NVIDIA H200, compute capability 9.0, CUDA driver" in text
    assert text.count("<h2>") > 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["floors"].pop(),
        lambda content: content.update(measurements=[], floors=[]),
        lambda content: content["machine"].pop("load"),
        lambda content: content["machine"].update(load=["much"]),
        lambda content: content["machine"].update(gpu={}),
        lambda content: content.update(floors=None),
        lambda content: content.update(operators=None),
        lambda content: content["operators"]["calotype openvino"].update(unet_step={"layout": 0}),
        lambda content: content.update(surprise=1),
        lambda content: row(content)["engine"].update(dtype="int8"),
        lambda content: row(content)["engine"].pop("path"),
        lambda content: row(content)["samples"][0].update(seconds="soon"),
        lambda content: row(content)["samples"][0].update(seconds=0),
        lambda content: row(content)["samples"][0].update(seconds=math.nan),
        lambda content: row(content)["samples"][0].update(evaluations=2.5),
        lambda content: row(content)["samples"][0].update(parts={"unet_step": 0.0, "vae_decoder": 0.0}),
        lambda content: row(content)["fidelity"].update(ssim=None),
    ],
)
def test_a_damaged_result_is_refused(found: tuple[Path, Path], damage: Callable[[Any], object]) -> None:
    made.change(found[0], damage)
    with pytest.raises(RequestError, match=r"latency\.json is no result"):
        results.read(found[0])


def row(content: Any) -> Any:
    return content["measurements"][0]["rows"][0]


def test_what_is_wrong_with_a_result_is_named(found: tuple[Path, Path]) -> None:
    made.change(found[0], lambda content: row(content)["samples"][2].update(seconds="soon"))
    place = r"latency\.measurements\[0\]\.rows\[0\]\.samples\[2\]\.seconds"
    with pytest.raises(RequestError, match=rf"{place}: expected a number, found 'soon'"):
        results.read(found[0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["pairs"][0].update(found="AAAA"),
        lambda content: content["pairs"][0].update(found="no base64"),
        lambda content: content["pairs"][0].update(request=-1),
        lambda content: content.update(failures=None),
    ],
)
def test_a_damaged_comparison_is_refused(found: tuple[Path, Path], damage: Callable[[Any], object]) -> None:
    made.change(found[1], damage)
    with pytest.raises(RequestError, match=r"comparison\.json is no result"):
        results.read(found[1])


def test_pictures_that_are_missing_are_refused(found: tuple[Path, Path]) -> None:
    made.change(found[1], lambda content: content.update(expected=[]))
    with pytest.raises(RequestError, match="0 pictures of the reference, expected 1"):
        results.read(found[1])


def test_parts_are_told_as_pictures_are(page: Path) -> None:
    first = made.latency().measurements[0]
    few = report_text.table(first)
    assert "p90 seconds of the parts" not in few
    assert "fastest 0.630; of the floor" in page.read_text("utf-8")
    twice = tuple(dataclasses.replace(row, samples=row.samples * 2) for row in first.rows)
    lines = report_text.table(dataclasses.replace(first, rows=twice)).splitlines()
    ours = [line.split()[4] for line in lines if line.startswith("calotype")][1:]  # behind the picture's own
    heads = [line.partition(" of the parts")[0] for line in lines if " of the parts" in line]
    told = dict(zip(heads, ours, strict=True))
    assert told == {
        "fastest seconds": "0.6300", "median seconds": "0.7000", "p90 seconds": "0.7700", "spread": "5.0%"
    }  # fmt: skip


def test_what_drew_another_picture_is_no_step_of_the_waterfall() -> None:
    far = Fidelity(0.5, 0.9, 12.0, 0.5, 200)
    (first, *_) = made.latency().measurements
    whole = waterfall.of_rows(first.rows)
    assert [step["gain"] for step in whole] == ["2.000 (all of 2.000 to 2.000)"]
    for index in (0, 1):
        rows = list(first.rows)
        rows[index] = dataclasses.replace(rows[index], fidelity=far)
        assert waterfall.of_rows(rows) == []
        rows[index] = dataclasses.replace(rows[index], fidelity=None)
        assert waterfall.of_rows(rows) == []


def test_a_floor_above_what_was_measured_says_that_the_rate_is_too_low() -> None:
    assert figures.share(1.0, 2.0) == "50%"
    assert figures.share(2.2, 2.0) == ">100%"
    assert figures.share(None, 2.0) == "-"


def test_a_waterfall_is_of_the_first_backend_and_of_eager_diffusers_in_float32() -> None:
    (first, *_) = made.latency().measurements
    ours, eager, missing = first.rows
    others = (
        dataclasses.replace(ours, engine=dataclasses.replace(ours.engine, backend="onnxruntime")),
        dataclasses.replace(eager, engine=dataclasses.replace(eager.engine, dtype="bf16")),
    )
    assert waterfall.of_rows((ours, eager, missing, *others)) == waterfall.of_rows(first.rows)
    assert waterfall.of_rows((ours, *others, eager, missing)) == waterfall.of_rows(first.rows)
