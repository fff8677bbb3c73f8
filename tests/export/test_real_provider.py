"""ONNX Runtime's own CUDA provider, without a GPU: it opens every program, records it once, and then only launches."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from calotype.bundle import Bundle
from calotype_export import build
from tests.bundles import RECIPES, bundle, checkpoint
from tests.engine import lora_files
from tests.standin import cuda_libraries
from tests.standin.cuda_kernels import lacking, types
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
        assert not [
            name for name in program["first"] if "TransposeQKV" in name
        ]  # heads of attention stay where they are


def test_a_program_is_recorded_once_a_thread_while_nobody_else_does_what_must_not_be(libraries: Path) -> None:
    records, launches = [1, 1], [0, 0]
    found = call(libraries, "threads", str(bundle("plain")), "text_encoder")
    assert found == 2 * [records, launches]


def products_in_float32(path: Path) -> list[str]:
    graph = onnx.load(path, load_external_data=False).graph
    known = dict(types(graph))
    return [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv", "Attention", "MultiHeadAttention")
        and onnx.TensorProto.FLOAT in {known.get(name) for name in (*node.input, *node.output)}
    ]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_has_no_product_in_float32_and_fuses(
    precision: str, libraries: Path, tmp_path: Path
) -> None:
    source = str(checkpoint("plain"))
    # this size: see tests/export/test_build.py
    root = build.build(build.BuildOptions(source, tmp_path / "bundle", precision=precision, size=(128, 64)))
    for program in call(libraries, "programs", str(root)):
        assert program["last"] == {"cudaGraphLaunch": 1}
    for spec in Bundle.open(root).manifest.programs:
        if spec.precision != "fp32":  # so that TF32 may be on
            assert not products_in_float32(root / spec.cuda_files[0].path)
    told = [line for line in call(libraries, "compiled", str(root)) if ": " in line]
    graphs, settings = ["text encoder", "VAE encoder", "VAE decoder", "step"], ["safety checker"]
    if precision == "fp16":
        assert len(told) == 2 * len(graphs) + len([*graphs[1:], *settings])
    else:
        assert not told  # the provider has fused operators and NHWC for other types alone
    for line in told:
        assert "faster in" in line or line.endswith("nothing to fuse, or nothing else")


def test_without_graphs_nothing_is_recorded(libraries: Path) -> None:
    for program in call(libraries, "programs", str(bundle("plain")), "eager"):
        for calls in (program["first"], program["last"]):
            assert calls["cudaGetLastError"] > 0
            assert not [name for name in calls if "Capture" in name or "Graph" in name]


def test_a_picture_is_launches_alone_with_and_without_a_lora(libraries: Path, tmp_path: Path) -> None:
    style = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    first, *later = call(libraries, "pictures", str(bundle("plain")), str(style), str(_STEPS))
    assert first["cudaStreamBeginCapture"] == len(["text encoder", "step", "VAE decoder"])
    texts = 1  # the prompt and the negative one, in one run
    launches = texts + _STEPS + len(["VAE decoder", "safety checker"])
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
    graphs, settings = (
        ["text encoder", "step", "step of two", "VAE encoder", "VAE decoder"],
        ["safety checker"],
    )
    # a text encoder has no convolutions
    assert len(told) == 2 * len(graphs) + len([*graphs[1:], *settings])
    for line in told:
        assert "faster in" in line or line.endswith("nothing to fuse, or nothing else")
