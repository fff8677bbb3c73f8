"""ONNX Runtime's own CUDA provider, without a GPU: it opens every program, records it once, and then only launches."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calotype.bundle import Bundle
from calotype_export import build
from tests.bundles import RECIPES, bundle, checkpoint
from tests.engine import lora_files
from tests.standin import cuda_libraries
from tests.standin.cuda_kernels import lacking
from tests.standin.real_provider import PROVIDER, call

pytestmark = pytest.mark.skipif(
    not (PROVIDER.is_file() and shutil.which("cc")),
    reason="`make test` installs ONNX Runtime for CUDA, on Linux; its libraries' stand-in needs a C compiler",
)
_STEPS = 3
_GLOBALLY = 0  # cudaStreamCaptureModeGlobal


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libraries")
    cuda_libraries.build(PROVIDER, folder)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_every_program_is_recorded_in_its_first_run_and_launched_from_then_on(
    name: str, libraries: Path
) -> None:
    programs = call(libraries, "programs", str(bundle(name)))
    assert len(programs) == len(Bundle.open(bundle(name)).manifest.programs)
    for program in programs:
        assert program["first"]["cudaStreamBeginCapture"] == 1
        assert program["last"] == {"cudaGraphLaunch": 1}  # it does not wait
        assert program["mode"] == _GLOBALLY  # which calotype.backends._recording is for
        assert program["changed"] == 0


@pytest.mark.slow
def test_bfloat16_runs_too(libraries: Path, tmp_path: Path) -> None:
    source = str(checkpoint("plain"))
    # this size: see tests/export/test_build.py
    options = build.BuildOptions(source, tmp_path / "bundle", precision="bf16", size=(128, 64))
    for program in call(libraries, "programs", str(build.build(options))):
        assert program["last"] == {"cudaGraphLaunch": 1}


def test_without_graphs_nothing_is_recorded(libraries: Path) -> None:
    for program in call(libraries, "programs", str(bundle("plain")), "eager"):
        for calls in (program["first"], program["last"]):
            assert calls["cudaGetLastError"] > 0
            assert not [name for name in calls if "Capture" in name or "Graph" in name]


def test_a_picture_is_launches_alone_with_and_without_a_lora(libraries: Path, tmp_path: Path) -> None:
    style = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    first, *later = call(libraries, "pictures", str(bundle("plain")), str(style), str(_STEPS))
    assert first["cudaStreamBeginCapture"] == len(["text encoder", "step", "VAE decoder"])
    launches = len(["prompt", "negative prompt"]) + _STEPS + len(["VAE decoder", "safety checker"])
    assert later == 3 * [{"cudaGraphLaunch": launches}]


@pytest.mark.parametrize("name", ["plain", "depth"])
def test_the_stand_ins_list_of_kernels_is_the_providers_own(name: str, libraries: Path) -> None:
    graphs = sorted((bundle(name) / "onnx").glob("*.onnx"))
    found = call(libraries, "refused", *map(str, graphs))
    assert found == [sorted(node.split()[0] for node in lacking(path)) for path in graphs]
    assert any(found)
    assert not any(
        nodes for path, nodes in zip(graphs, found, strict=True) if path.name.endswith(".cuda.onnx")
    )


def test_the_optimisers_graphs_are_opened_and_run(libraries: Path, tmp_path: Path) -> None:
    root = shutil.copytree(bundle("plain"), tmp_path / "bundle")
    told = [line for line in call(libraries, "compiled", str(root)) if ": " in line]
    assert len(told) == 2 * len(["text encoder", "step", "step of two", "VAE encoder", "VAE decoder"])
    for line in told:
        assert "faster in" in line or line.endswith("nothing to fuse, or nothing else")
