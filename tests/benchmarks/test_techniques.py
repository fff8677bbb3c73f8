"""What each rewriting of a graph gains: the variants are what they say, and run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import backends
from calotype.backends import _host
from calotype.backends.openvino import REWRITINGS, Compiler
from calotype.bundle import Bundle
from calotype.errors import RequestError
from calotype_bench import report_text, results, techniques, waterfall
from calotype_bench.cli import main
from calotype_bench.results import Techniques
from tests.benchmarks import made
from tests.bundles import bundle


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ops()]


def test_every_program_is_measured_with_what_changes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_host, "processor", lambda: "avx2 avx512f")  # what is rewritten depends on it
    output = tmp_path / "found.json"
    command = ["techniques", str(bundle("plain")), "--runs", "2", "--openings", "3", "--threads", "1"]
    assert main([*command, "-o", str(output)]) == 0
    found = results.read(output)
    assert isinstance(found, Techniques)
    changes = {name: [variant.change for variant in variants] for name, variants in found.programs.items()}
    assert changes["text_encoder"] == [techniques.UNCHANGED, "masked attention"]
    assert changes["unet_step"] == changes["vae_decoder"] == [techniques.UNCHANGED, "norms"]
    for variants in found.programs.values():
        assert [[len(opening) for opening in variant.samples] for variant in variants] == [[2] * 3] * len(
            variants
        )
        assert variants[0].distance == 0
        assert all(variant.distance < 1e-5 for variant in variants)
        assert all(variant.places for variant in variants[1:])
    told = capsys.readouterr().out
    assert "unet_step, norms" in told
    assert "text_encoder, masked attention" in told


def test_a_variant_has_the_rewritings_up_to_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[list[str]] = []
    original = Compiler.compile

    def noted(self: Compiler, model: Any) -> Any:
        compiled.append(kinds(model))
        return original(self, model)

    monkeypatch.setattr(Compiler, "compile", noted)
    opened = Bundle.open(bundle("plain"))
    techniques.measure(opened, techniques.Plan(1, 2, 1), lambda done, total, what: None)
    graph = opened.root / opened.program("text_encoder").files[0].path
    guards = kinds(Compiler(1).read_as_it_is(graph)).count("IsNaN")
    assert guards > 0
    texts = [found.count("IsNaN") for found in compiled if "Gather" in found]
    assert texts.count(guards) == 2
    assert texts.count(0) >= 2


@pytest.mark.parametrize("opening", [0, 1])
def test_seconds_and_outputs_are_of_the_variant_that_took_them(
    opening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Request:
        def __init__(self, changes: Sequence[str]) -> None:
            self.count = len(changes)

        def infer(self, _: object) -> dict[str, Any]:
            return {"output": np.full(1, self.count)}

    def opened(_: object, __: object, changes: Sequence[str]) -> Request:
        return Request(changes)

    monkeypatch.setattr(techniques, "_open", opened)
    monkeypatch.setattr(techniques, "wall_seconds", lambda run: 1.0 + float(run()["output"][0]))
    compiler: Any = None
    variants = ["as it is", "norms", "masks"]
    found = techniques._opened(compiler, Path(), variants, {}, 2, opening)
    assert {name: ran.seconds for name, ran in found.items()} == {
        "as it is": (1.0, 1.0), "norms": (2.0, 2.0), "masks": (3.0, 3.0),
    }  # fmt: skip
    assert {name: ran.outputs[0].item() for name, ran in found.items()} == {
        "as it is": 0,
        "norms": 1,
        "masks": 2,
    }


def test_the_runtime_reads_with_every_rewriting() -> None:
    graph = bundle("plain") / Bundle.open(bundle("plain")).program("text_encoder").files[0].path
    compiler = Compiler(1)
    whole = compiler.read_as_it_is(graph)
    for rewrite in REWRITINGS.values():
        rewrite(whole)
    assert kinds(compiler.read(graph)) == kinds(whole)


def test_what_cannot_be_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(shutil.copytree(bundle("plain"), tmp_path / "bundle"))
    graph = root / Bundle.open(root).program("unet_step").files[0].path
    graph.write_bytes(b"no graph")
    assert main(["techniques", str(root)]) == 1
    assert "unet_step" in capsys.readouterr().err
    assert main(["techniques", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is no bundle" in capsys.readouterr().err


def test_without_openvino_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backends, "installed", lambda: ("onnxruntime",))
    assert main(["techniques", str(bundle("plain"))]) == 1
    assert 'pip install "calotype[openvino]"' in capsys.readouterr().err


def test_techniques_are_read_as_they_were_written(tmp_path: Path) -> None:
    results.write(made.techniques(), tmp_path / "techniques.json")
    assert results.read(tmp_path / "techniques.json") == made.techniques()


def test_changes_of_a_program_are_steps_down_or_up() -> None:
    steps = waterfall.of_techniques(made.techniques())
    assert list(steps) == ["unet_step"]
    norms, masks = steps["unet_step"]
    assert (norms["from"], norms["width"], norms["lost"]) == (pytest.approx(50), pytest.approx(50), False)
    assert (masks["from"], masks["width"], masks["lost"]) == (pytest.approx(50), pytest.approx(5), True)
    assert str(masks["gain"].ratio) == "1.100 (all of 1.100 to 1.100)"


def test_a_page_says_what_each_change_gained(tmp_path: Path) -> None:
    results.write(made.techniques(), tmp_path / "techniques.json")
    output = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "techniques.json"), "-o", str(output)]) == 0
    text = output.read_text("utf-8")
    assert (
        "200.000 ms before, 100.000 ms after, in 3 places; outputs equal to those without any change" in text
    )
    assert "100.000 ms before, 110.000 ms after, in 1 places; outputs 1.0e-06 (relative L2) from" in text
    assert "No change is for vae_decoder." in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["programs"].update(unet_step=[]),
        lambda content: content["programs"]["unet_step"][0]["samples"].pop(),
        lambda content: content["programs"]["unet_step"][0]["samples"][0].pop(),
        lambda content: content["programs"]["vae_decoder"][0].update(samples=[]),
        lambda content: content["programs"]["vae_decoder"][0].update(samples=[[]]),
        lambda content: content["programs"]["vae_decoder"][0].update(samples=[[0.0]]),
        lambda content: content["programs"]["vae_decoder"][0].update(places="many"),
    ],
)
def test_damaged_techniques_are_refused(tmp_path: Path, damage: Callable[[Any], object]) -> None:
    path = tmp_path / "techniques.json"
    results.write(made.techniques(), path)
    made.change(path, damage)
    with pytest.raises(RequestError, match=r"techniques\.json is no result"):
        results.read(path)


def test_the_terminal_tells_seconds_before_and_after() -> None:
    lines = report_text.techniques(made.techniques()).splitlines()
    told = {line[:32].strip(): line[32:].split()[:3] for line in lines[1:]}
    assert told["unet_step, norms"] == ["3", "200.000", "100.000"]
    assert told["unet_step, masks"] == ["1", "100.000", "110.000"]
