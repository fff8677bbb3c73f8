"""What must hold on a real GPU: run by `make gpu`, and with --rehearse on the stand-in."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from calotype import Pipeline
from calotype.backends import Array, _cuda
from calotype.backends.onnxruntime import PROVIDERS
from tests.backends.contract_cases import in_two_threads
from tests.bundles import bundle
from tests.engine import lora_files
from tests.export.fused_operators import OPERATORS

pytestmark = pytest.mark.gpu


def draw(pipeline: Pipeline, **changes: Any) -> Array:
    request: dict[str, Any] = {
        "num_inference_steps": 4,
        "seed": 5,
        "output_type": "latent",
        "scheduler": "ddim",
    }
    return pipeline("a red circle on a blue wall", **request | changes).images


def test_latents_are_those_of_the_cpu(backend: str, root: Path) -> None:
    expected = draw(Pipeline.load(bundle("plain"), "onnxruntime"))
    found = draw(Pipeline.load(root, backend, device="cuda"))
    assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected)


def test_what_onnxruntime_finds_fastest_draws_the_same(backend: str, root: Path, rehearsing: bool) -> None:
    if backend != "onnxruntime" or rehearsing or importlib.util.find_spec("torch") is None:
        pytest.skip("only ONNX Runtime tries on a GPU what is fastest there, where torch is")
    from calotype_export.compile import compile_bundle
    from calotype_export.tensorrt_builder import BuilderOptions

    expected = draw(Pipeline.load(root, backend, device="cuda"))
    compile_bundle(root, backend, BuilderOptions(gpu=0))
    for graphs in (True, False):
        pipeline = Pipeline.load(root, backend, device="cuda", graphs=graphs)
        for found in (draw(pipeline), draw(pipeline)):
            assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "heun"])
def test_graphs_change_no_bit(backend: str, root: Path, scheduler: str) -> None:
    recorded = Pipeline.load(root, backend, device="cuda")
    found = [draw(recorded, scheduler=scheduler) for _ in range(3)]
    found.append(draw(recorded, scheduler=scheduler, progress=lambda *_: None))
    one_by_one = draw(Pipeline.load(root, backend, device="cuda", graphs=False), scheduler=scheduler)
    assert all(np.array_equal(each, one_by_one) for each in found)


def test_two_pipelines_in_two_threads_do_not_disturb_each_other(backend: str, root: Path) -> None:
    pipelines = [Pipeline.load(root, backend, device="cuda") for _ in range(2)]
    alone = [draw(pipeline, seed=index) for index, pipeline in enumerate(pipelines)]
    found = in_two_threads(lambda index: draw(pipelines[index], seed=index), 4)
    for index in range(2):
        assert len(found[index]) == 4
        assert all(np.array_equal(each, alone[index]) for each in found[index])


def test_nothing_is_read_before_all_programs_of_a_picture_were_launched(
    backend: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    seen: list[str] = []
    call = _cuda.Device.call

    def logged(device: _cuda.Device, name: str, *arguments: Any) -> Any:
        seen.append(arguments[3].name if name == "cudaMemcpyAsync" else name)
        return call(device, name, *arguments)

    draw(pipeline, output_type="np")
    monkeypatch.setattr(_cuda.Device, "call", logged)
    draw(pipeline, output_type="np")
    reads = ("cudaMemcpyDeviceToHost", "cudaStreamSynchronize")
    last = max(index for index, what in enumerate(seen) if what == "cudaMemcpyDeviceToDevice")
    assert min(index for index, what in enumerate(seen) if what in reads) > last  # the copy of the picture


def test_the_gpus_clock_tells_what_each_program_took(backend: str, root: Path) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    for _ in range(3):
        result = pipeline("a red circle", num_inference_steps=3, seed=5, output_type="np")
        found = result.device_timings
        assert set(found) == {"text_encoder", "unet_step", "vae_decoder", "safety_checker"}
        assert all(seconds > 0 for seconds in found.values())


def test_a_lora_is_taken_off_exactly(backend: str, root: Path, tmp_path: Path) -> None:
    style = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    pipeline, reference = (
        Pipeline.load(root, backend, device="cuda"),
        Pipeline.load(bundle("plain"), "onnxruntime"),
    )
    plain = draw(pipeline)
    for drawing in (pipeline, reference):
        drawing.set_lora([(style, 1.0)])
    found, expected = draw(pipeline), draw(reference)
    pipeline.set_lora([])

    assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected)
    assert not np.allclose(found, plain, atol=1e-3)
    assert np.array_equal(draw(pipeline), plain)


# Channels of a head, queries, and keys: of itself and of the prompt, in UNets of Stable Diffusion 1 and 2 at 512x512.
ATTENTIONS = [
    (40, 4096, 4096), (40, 4096, 77), (80, 1024, 1024), (80, 1024, 77), (160, 256, 256), (160, 64, 64), (160, 64, 77),
    (64, 4096, 4096), (64, 1024, 77),
]  # fmt: skip


@pytest.mark.parametrize(("channels", "queries", "keys"), ATTENTIONS)
def test_attention_in_half_precision(rehearsing: bool, channels: int, queries: int, keys: int) -> None:
    if not rehearsing and PROVIDERS["cuda"] not in ort.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    if rehearsing:  # processors have the operator in float32 alone
        queries, keys = queries // 16, -(-keys // 16)
    kind, dtype = (TensorProto.FLOAT, np.float32) if rehearsing else (TensorProto.FLOAT16, np.float16)
    heads = 8
    node = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=heads
    )
    sides = {"q": queries, "k": keys, "v": keys, "y": queries}
    q, k, v, y = [
        helper.make_tensor_value_info(name, kind, [2, side, heads * channels]) for name, side in sides.items()
    ]
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph([node], "g", [q, k, v], [y]), opset_imports=opsets, ir_version=10
    )
    draws = np.random.default_rng(0)
    given = {name: draws.standard_normal((2, sides[name], heads * channels)).astype(dtype) for name in "qkv"}
    provider = PROVIDERS["cpu" if rehearsing else "cuda"]
    session = ort.InferenceSession(model.SerializeToString(), providers=[provider])
    found = np.asarray(session.run(None, given)[0])

    definition: Any = ReferenceEvaluator(model, new_ops=OPERATORS).run(None, given)
    expected = definition[0]
    assert session.get_providers()[0] == provider
    assert np.linalg.norm(found - expected) <= 2e-3 * np.linalg.norm(expected)
