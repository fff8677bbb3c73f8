"""Two runs of one comparison, side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from calotype_bench import agreement, results
from calotype_bench.cli import main
from calotype_bench.measurement import Row
from tests.benchmarks import made


def test_runs_whose_intervals_overlap_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = made.write_six(tmp_path / "one.json"), made.write_six(tmp_path / "other.json")
    assert main(["agree", one, other]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:5] == ["1", "x", "512x512,", "10", "steps"]
    assert out.endswith("16 of 16 intervals overlap\n")
    assert out.splitlines()[0].endswith(" overlap                     latents 1.0e-06, pictures 80.0 dB")
    assert (
        "calotype openvino fp32      eager fp32                  unet step                   0.500 (0.500 to 0.500)"
        in out
    )


def test_runs_that_are_apart_are_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = made.write_six(tmp_path / "one.json"), made.write_six(tmp_path / "other.json", 1.1)
    assert main(["agree", one, other]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("0 of 16 intervals overlap\n")
    assert "16 of 16 intervals do not overlap: calotype openvino fp32 to eager fp32, picture; " in err


def test_extremes_of_few_runs_are_told_and_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.write(made.latency(), tmp_path / "few.json")
    assert main(["agree", made.write_six(tmp_path / "one.json", 1.1), str(tmp_path / "few.json")]) == 1
    out, err = capsys.readouterr()
    assert " apart, of few draws " in out
    assert out.endswith("0 of 0 intervals overlap\n16 ratios of fewer than 6 draws have none\n")
    assert "no ratio has an interval in both" in err


def test_other_results_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.write(made.comparison(), tmp_path / "pictures.json")
    one = made.write_six(tmp_path / "one.json")
    assert main(["agree", one, str(tmp_path / "pictures.json")]) == 2
    assert "expected two results of calotype-bench latency" in capsys.readouterr().err
    found = made.latency()
    rows = tuple(dataclasses.replace(each, rows=each.rows[:1]) for each in found.measurements)
    results.write(dataclasses.replace(found, measurements=rows), tmp_path / "alone.json")
    assert main(["agree", one, str(tmp_path / "alone.json")]) == 2
    assert "no ratio in common" in capsys.readouterr().err


def test_the_order_of_engines_does_not_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = made.write_six(tmp_path / "one.json")
    found = results.read(Path(one))
    assert isinstance(found, results.Latency)
    others = tuple(dataclasses.replace(each, rows=each.rows[::-1]) for each in found.measurements)
    results.write(dataclasses.replace(found, measurements=others), tmp_path / "other.json")
    assert main(["agree", one, str(tmp_path / "other.json")]) == 0
    assert capsys.readouterr().out.endswith("16 of 16 intervals overlap\n")


def test_other_requests_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, found = made.write_six(tmp_path / "one.json"), made.latency()
    changed = tuple(
        dataclasses.replace(each, job=dataclasses.replace(each.job, guidance_scale=2.0))
        for each in found.measurements
    )
    results.write(dataclasses.replace(found, measurements=changed), tmp_path / "guided.json")
    assert main(["agree", one, str(tmp_path / "guided.json")]) == 2
    assert "no ratio in common" in capsys.readouterr().err


def test_other_bundles_and_machines_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, found = made.write_six(tmp_path / "one.json"), results.read(tmp_path / "one.json")
    assert isinstance(found, results.Latency)
    machine = {**found.machine, "processor": "another"}
    bundles = ({"precision": "fp32", "digest": "f" * 64},)
    results.write(dataclasses.replace(found, machine=machine, bundles=bundles), tmp_path / "other.json")
    assert main(["agree", one, str(tmp_path / "other.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["the bundles are not the same", "the processors are not the same"]


def test_other_threads_and_cores_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, found = made.write_six(tmp_path / "one.json"), results.read(tmp_path / "one.json")
    assert isinstance(found, results.Latency)
    changed = tuple(
        dataclasses.replace(
            each,
            rows=tuple(
                dataclasses.replace(row, engine=dataclasses.replace(row.engine, threads=1, device="cuda"))
                for row in each.rows
            ),
        )
        for each in found.measurements
    )
    machine = {**found.machine, "cores": 8}
    other = dataclasses.replace(found, machine=machine, measurements=changed)
    results.write(other, tmp_path / "other.json")
    assert main(["agree", one, str(tmp_path / "other.json")]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "the numbers of cores are not the same",
        "the threads of engines are not the same",
        "the devices of engines are not the same",
    ]


def test_other_versions_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, found = made.write_six(tmp_path / "one.json"), results.read(tmp_path / "one.json")
    assert isinstance(found, results.Latency)
    changed = tuple(
        dataclasses.replace(each, rows=(_of_version(each.rows[0], "2.1"), *each.rows[1:]))
        for each in found.measurements
    )
    results.write(dataclasses.replace(found, measurements=changed), tmp_path / "other.json")
    assert main(["agree", one, str(tmp_path / "other.json")]) == 0
    told = "calotype openvino fp32 had numpy 2.0 in one, 2.1 in the other"
    assert capsys.readouterr().out.splitlines()[0] == told


def test_what_one_of_the_two_lacks_or_warmed_up_otherwise_is_told_from_either_side() -> None:
    one = made.latency()
    first = one.measurements[0].rows[0]
    assert first.ready is not None
    more = dataclasses.replace(first.ready, versions={**first.ready.versions, "openvino": "1"})
    rows = (dataclasses.replace(first, ready=more), *one.measurements[0].rows[1:])
    measured = (dataclasses.replace(one.measurements[0], rows=rows), *one.measurements[1:])
    other = dataclasses.replace(one, measurements=measured[:1], warm_up="one picture")
    one = dataclasses.replace(one, measurements=one.measurements[:1])
    warmed = "the pictures to warm up are not the same"
    label = "calotype openvino fp32"
    assert agreement.differences(one, other) == [warmed, f"{label} had openvino none in one, 1 in the other"]
    assert agreement.differences(other, one) == [warmed, f"{label} had openvino 1 in one, none in the other"]


def _of_version(row: Row, numpy: str) -> Row:
    assert row.ready is not None
    return dataclasses.replace(row, ready=dataclasses.replace(row.ready, versions={"numpy": numpy}))


def test_ours_are_compared_with_others_of_their_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = results.read(Path(made.write_six(tmp_path / "fp32.json")))
    assert isinstance(found, results.Latency)
    measured = found.measurements[0]
    ours, eager, _ = measured.rows
    rows = (ours, eager, *(_in_bf16(row) for row in (ours, eager)))
    one = dataclasses.replace(
        found, measurements=(dataclasses.replace(measured, rows=rows),), floors=found.floors[:1]
    )
    results.write(one, tmp_path / "one.json")
    assert main(["agree", str(tmp_path / "one.json"), str(tmp_path / "one.json")]) == 0
    lines = [line.split()[7:] for line in capsys.readouterr().out.splitlines()]
    subjects = {" ".join(cells[: cells.index("picture")]) for cells in lines if "picture" in cells}
    assert subjects == {
        "calotype openvino fp32 eager fp32",
        "calotype openvino bf16 calotype openvino fp32",
        "eager bf16 calotype openvino fp32",
        "calotype openvino bf16 eager bf16",
    }


def _in_bf16(row: Row) -> Row:
    return dataclasses.replace(row, engine=dataclasses.replace(row.engine, dtype="bf16"))
