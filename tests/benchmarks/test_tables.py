"""Tables in Markdown files, from results and from the figures of other commands."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from calotype.errors import RequestError
from calotype_bench import results, tables
from calotype_bench.cli import main
from tests.benchmarks import made

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def written(tmp_path: Path) -> None:
    results.write(made.latency(), tmp_path / "latency.json")
    results.write(made.comparison(), tmp_path / "comparison.json")
    results.write(made.techniques(), tmp_path / "techniques.json")


@pytest.mark.usefixtures("written")
def test_tables_are_written_between_their_marks(tmp_path: Path) -> None:
    text = tmp_path / "text.md"
    marks = (
        ("latency", "latency"),
        ("beside", "latency"),
        ("operators", "latency"),
        ("starts", "latency"),
        ("fidelity", "comparison"),
        ("techniques", "techniques"),
    )
    text.write_text(
        "# Before\n\n"
        + "".join(f"<!-- table {kind} {name}.json -->\nstale\n<!-- end -->\n" for kind, name in marks)
        + "after\n"
    )
    assert main(["tables", "--check", str(text)]) == 2
    assert main(["tables", str(text)]) == 0
    assert main(["tables", "--check", str(text)]) == 0
    written = text.read_text()
    assert "stale" not in written
    assert written.startswith("# Before\n")
    assert written.endswith("<!-- end -->\nafter\n")
    assert "| eager fp32 | 1.800 | 2.000 | - | - | 2.000 (all of 2.000 to 2.000) | 0.070 | 0.300 |" in written
    assert "| convolution |" in written
    assert "| calotype openvino fp32 | 0.500 | 1.000 | 2.000 | 20 | 0.2 |" in written
    assert "| calotype openvino fp32 | 0.500 (all of 0.500 to 0.500) eager fp32 |" in written
    assert "eager fp32 | 1.0e-06 | 80.0 |" in written  # a ratio is not printed without its distance
    assert "| eager bf16 (noise floor) | 1 |" in written
    assert "| unet_step | norms | 3 | 200.0 | 100.0 | 0.500 (all of 0.500 to 0.500) | equal |" in written
    assert "`calotype-bench latency bundle --title 'A bundle'`" in written
    text.write_text("<!-- table fidelity latency.json -->\n<!-- end -->\n")
    with pytest.raises(RequestError, match="a table `fidelity` cannot be made of it"):
        tables.bring_up_to_date(text.read_text(), tmp_path)


@pytest.mark.usefixtures("written")
def test_tables_of_one_result_share_their_captions_and_their_command(tmp_path: Path) -> None:
    written = tables.bring_up_to_date(
        "<!-- table latency+beside+operators latency.json -->\n<!-- end -->\n", tmp_path
    )
    assert written.count("`calotype-bench latency bundle --title 'A bundle'`") == 1
    assert written.count("one picture of 512x512, 10 steps of ddim") == 1
    assert written.count("| ours, over the fastest other |") == 4  # two numbers of steps, two of pictures
    assert "| convolution |" in written
    assert " runs of each in turn, " in written


def test_a_caption_tells_whether_engines_were_loaded_one_at_a_time(tmp_path: Path) -> None:
    found = made.latency()
    alone = dataclasses.replace(found, command=(*found.command, "--one-at-a-time"))
    results.write(alone, tmp_path / "alone.json")
    written = tables.bring_up_to_date("<!-- table latency alone.json -->\n<!-- end -->\n", tmp_path)
    assert " runs of each, loaded one at a time, " in written


@pytest.mark.usefixtures("written")
def test_a_summary_is_of_several_results(tmp_path: Path) -> None:
    mark = "<!-- table summary latency.json latency.json -->\n"
    lines = tables.bring_up_to_date(f"{mark}<!-- end -->\n", tmp_path).splitlines()
    told = [
        line
        for line in lines
        if line.startswith("| A bundle, 10 steps | name | calotype openvino fp32 | 0.500 ")
    ]
    assert len(told) == 4  # two numbers of pictures, of two results
    assert all(line.endswith(" | 1.0e-06 | 80.0 | `latency.json` |") for line in told)
    for kinds, files in (("summary", "comparison.json"), ("beside", "latency.json latency.json")):
        with pytest.raises(RequestError, match=r"json: a table (of several|`beside`) "):
            tables.bring_up_to_date(f"<!-- table {kinds} {files} -->\n<!-- end -->\n", tmp_path)


def test_two_runs_of_a_comparison_are_one_line(tmp_path: Path) -> None:
    for name, slower in (("one", 1.0), ("again", 1.0), ("apart", 1.1)):
        made.write_six(tmp_path / f"{name}.json", slower)
    mark = "<!-- table agreement one.json again.json one.json apart.json -->\n<!-- end -->\n"
    alike, apart = tables.bring_up_to_date(mark, tmp_path).splitlines()[3:5]
    assert alike == "| `one.json`, `again.json` | 0.0 | 16 of 16 | 16 of 16 |  |"
    assert apart.startswith(
        "| `one.json`, `apart.json` | 0.0 | 0 of 16 | 0 of 16 | calotype openvino fp32 to eager "
    )
    assert apart.count("eager fp32, picture") == 1  # though of four requests
    with pytest.raises(RequestError, match=r"apart\.json: expected pairs of results, found 3"):
        tables.bring_up_to_date(mark.replace(" again.json", ""), tmp_path)


def test_a_failure_of_any_words_is_one_cell(tmp_path: Path) -> None:
    found = made.latency()
    first = found.measurements[0]
    missing = dataclasses.replace(first.rows[2], failure="expected a | b")
    measurement = dataclasses.replace(first, rows=(*first.rows[:2], missing))
    several = dataclasses.replace(found, measurements=(measurement,), floors=found.floors[:1])
    results.write(several, tmp_path / "several.json")
    written = tables.bring_up_to_date("<!-- table latency several.json -->\n<!-- end -->\n", tmp_path)
    assert r"could not be measured: expected a \| b |" in written
    assert "(kept as `several.json`), on A processor" in written


def test_figures_of_other_commands_are_tables_too(tmp_path: Path) -> None:
    compared = {"ratio": 1.25, "interval": [1.2, 1.3], "samples": [[2.5, 2.0]] * 8, "distance": 0.0}
    shape = {
        "queries": [2, 8, 4096, 40],
        "keys": [2, 8, 77, 40],
        "times": 5,
        "openvino": 0.005,
        "torch": 0.004,
    }
    lora = {
        "load": 20.0,
        "apply": 8.5,
        "take off": 4.0,
        "changes latents by": 3e-3,
        "restored bit for bit": True,
    }
    launched = {"program": "unet_step", "graph": "fused", "launches": 764}
    plan = {
        "name": "vae_decoder", "build_seconds": 1.25, "files": [{"size": 2**20}, {"size": 2**19}],
        "activation_bytes": 2**21, "attentions": 3, "unfused_attentions": ["one"],
    }  # fmt: skip
    figures = {
        "command": ["python", "a b.py"], "machine": made.MACHINE,
        "shapes": [shape | compared], "step": {"openvino": 0.025, "torch": 0.02},
        "backends": {"openvino": compared | lora | {"before": 2.0, "after": 2.5, "prompt": 0.01, "row": 0.02}},
        "latents": {"eager fp16": {"1": 5.5e-4, "20": 4e-3}},
    }  # fmt: skip
    models = {
        "sd15": [launched | {"settings": []}, launched | {"settings": ["prefer_nhwc"], "launches": 769}]
    }
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    (tmp_path / "launches.json").write_text(json.dumps({"models": models}))
    (tmp_path / "plans.json").write_text(json.dumps({"models": {"sd15": {"plans": [plan]}}}))
    expected = {
        "attention": "| 8 heads of 40, 4096 with 77 | 5 | 5.0 | 4.0 | 1.250 (1.200 to 1.300) | 0.0e+00 |",
        "hoisting": "| openvino | 2.00 | 2.50 | 1.250 (1.200 to 1.300) | 0.030 | 0.0e+00 |",
        "lora": "| openvino | 20.0 | 8.5 | 4.0 | 3.0e-03 | bit for bit |",
        "latents": "| eager fp16 | 5.5e-04 | 4.0e-03 |",
        "launches": "| sd15 | unet_step | all of the optimiser, joined | 764 | 769 |",
        "plans": "| sd15 | vae_decoder | 1.2 | 1.5 | 2.0 | 2 of 3 |",
    }
    for kind, line in expected.items():
        name = kind if kind in ("launches", "plans") else "figures"
        text = f"<!-- table {kind} {name}.json -->\n<!-- end -->\n"
        written = tables.bring_up_to_date(text, tmp_path)
        assert line in written.splitlines()
        origin = "`python 'a b.py'`, on A processor with a long name, 2 cores, 2026-01-02 03:04"
        assert (origin if name == "figures" else "on a machine that was not noted") in written.splitlines()
    with pytest.raises(
        RequestError, match=r"figures\.json: no table `plans` can be made of it: KeyError: 'models'"
    ):
        tables.bring_up_to_date("<!-- table plans figures.json -->\n<!-- end -->\n", tmp_path)


@pytest.mark.usefixtures("written")
def test_a_table_that_does_not_end_is_refused(tmp_path: Path) -> None:
    text = "<!-- table latency latency.json -->\nkept\n<!-- table latency latency.json -->\n<!-- end -->\n"
    with pytest.raises(RequestError, match="2 tables begin and 1 end"):
        tables.bring_up_to_date(text, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"# Nothing", r"x\.md: no table begins"), (b"\xff", r"x\.md is no text in UTF-8")],
)
def test_a_file_without_tables_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    (tmp_path / "x.md").write_bytes(content)
    assert main(["tables", "--check", str(tmp_path / "x.md")]) == 2
    assert re.search(message, capsys.readouterr().err)


PAGES = sorted([ROOT / "README.md", *(ROOT / "benchmarks").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_projects_own_tables_are_up_to_date(page: Path) -> None:
    assert main(["tables", "--check", str(page)]) == 0


def test_every_result_is_named_on_a_page() -> None:
    told = "\n".join(page.read_text("utf-8") for page in PAGES)
    kept = [path.name for path in (ROOT / "benchmarks" / "results").glob("*.json")]
    assert kept and not [name for name in kept if name not in told]
