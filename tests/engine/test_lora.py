"""LoRA files, put on and taken off a loaded pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import Pipeline, backends
from calotype.backends import Array
from calotype.errors import BackendError, BundleError, CheckpointError, RequestError
from calotype.tensor_files import narrowed
from tests.bundles import bundle
from tests.engine import lora_files
from tests.engine.tiny import PROMPT

BACKENDS = [name for name in ("onnxruntime", "openvino") if name in backends.installed()]


@pytest.fixture(scope="module", params=BACKENDS)
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline.load(bundle("plain"), request.param, batches=[1], threads=1)


@pytest.fixture
def style(tmp_path: Path) -> Path:
    return lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return lora_files.write(tmp_path / "other.safetensors", lora_files.peft(9))


def draw(pipeline: Pipeline) -> Array:
    arguments: dict[str, Any] = {"num_inference_steps": 3, "seed": 3, "output_type": "latent"}
    return pipeline(PROMPT, **arguments).images


def test_a_lora_is_taken_off_exactly(pipeline: Pipeline, style: Path, other: Path) -> None:
    plain = draw(pipeline)
    found: list[Array] = []
    for adapters in ([(style, 0.8)], [(other, 1.0)], [(style, 0.8)]):
        pipeline.set_lora(adapters)
        found.append(draw(pipeline))
    pipeline.set_lora([])

    assert np.array_equal(found[0], found[2])
    assert not np.allclose(found[0], found[1], atol=1e-3)
    assert not np.allclose(found[0], plain, atol=1e-3)
    assert np.array_equal(draw(pipeline), plain)


def test_weights_scale_and_several_add_up(
    pipeline: Pipeline, style: Path, other: Path, tmp_path: Path
) -> None:
    halved = {
        name: tensor / 2 if "lora_up" in name else tensor for name, tensor in lora_files.kohya(1).items()
    }
    half = lora_files.write(tmp_path / "half.safetensors", halved)
    pipeline.set_lora([(style, 0.5), (other, 0.3)])
    expected = draw(pipeline)
    pipeline.set_lora([(half, 1.0), (other, 0.3)])
    found = draw(pipeline)
    pipeline.set_lora([])

    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_all_backends_draw_the_same(style: Path) -> None:
    latents: list[Array] = []
    for name in BACKENDS:
        loaded = Pipeline.load(bundle("plain"), name, batches=[1], threads=1)
        loaded.set_lora([(style, 1.0)])
        latents.append(draw(loaded))
    for found in latents[1:]:
        np.testing.assert_allclose(found, latents[0], atol=1e-4 * np.abs(latents[0]).max())


def test_half_precision_files_are_read(pipeline: Pipeline, tmp_path: Path) -> None:
    def stored(name: str, bits: int) -> Path:
        tensors = {
            key: (tensor.view(np.uint32) >> bits << bits).view(np.float32)
            for key, tensor in lora_files.kohya(4).items()
        }
        if name == "bf16":
            tensors = {
                key: (tensor.view(np.uint32) >> 16).astype(np.uint16) for key, tensor in tensors.items()
            }
        return lora_files.write(tmp_path / f"{name}.safetensors", tensors)

    pipeline.set_lora([(stored("fp32", 16), 1.0)])
    expected = draw(pipeline)
    pipeline.set_lora([(stored("bf16", 16), 1.0)])
    found = draw(pipeline)
    pipeline.set_lora([])

    assert np.array_equal(found, expected)


def test_bfloat16_is_rounded_to_the_nearest_and_ties_to_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF], np.uint32)
    assert narrowed(bits.view(np.float32)).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F80]


def test_a_backend_that_fails_keeps_the_loras_that_it_had(
    style: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline.load(bundle("plain"), "onnxruntime", batches=[1], threads=1)
    pipeline.set_lora([(style, 1.0)])
    before = draw(pipeline)
    last = [each for each in pipeline._loaded.programs if each.spec.name in ("text_encoder", "unet_step")][-1]
    replace, failures = last.replace_weights, iter([BackendError("no memory")])

    def failing_once(weights: Mapping[str, Array]) -> None:
        for error in failures:
            raise error
        replace(weights)

    monkeypatch.setattr(last, "replace_weights", failing_once)
    with pytest.raises(BackendError, match="no memory"):
        pipeline.set_lora([])
    assert np.array_equal(draw(pipeline), before)


def test_what_was_added_is_in_the_parameters(pipeline: Pipeline, style: Path) -> None:
    pipeline.set_lora([(style, 0.8)])
    with_lora = pipeline(PROMPT, num_inference_steps=1, output_type="latent").parameters
    pipeline.set_lora([])
    without = pipeline(PROMPT, num_inference_steps=1, output_type="latent").parameters

    assert with_lora["lora"] == ["style.safetensors:0.8"]
    assert "lora" not in without


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_nowhere.alpha": np.zeros((), np.float32)}, "lora_unet_nowhere.alpha belong to no weight"),
        (
            {
                f"unet.{lora_files.ATTENTION}.to_q.lora_A.weight": np.zeros((4, 64), np.float32),
                f"unet.{lora_files.ATTENTION}.to_q.lora_B.weight": np.zeros((32, 4), np.float32),
            },
            r"has shape \(32, 32\) in this checkpoint; found up \(32, 4\) and down \(4, 64\)",
        ),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_change_nothing(
    pipeline: Pipeline, style: Path, tmp_path: Path, tensors: dict[str, Array], message: str
) -> None:
    written = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    wrong = lora_files.write(tmp_path / "wrong.safetensors", written)
    before = draw(pipeline)
    with pytest.raises(CheckpointError, match=message):
        pipeline.set_lora([(style, 1.0), (wrong, 1.0)])
    assert np.array_equal(draw(pipeline), before)


TARGET = f"unet.{lora_files.ATTENTION}.to_q"
DOWN, UP = lora_files.halves(1)


@pytest.mark.parametrize(
    "tensors",
    [
        {f"{TARGET}.lora_A.weight": DOWN[:0], f"{TARGET}.lora_B.weight": UP[:, :0]},
        {f"{TARGET}.lora_A.weight": DOWN[0, 0].reshape(()), f"{TARGET}.lora_B.weight": UP},
        {f"{TARGET}.lora_A.weight": DOWN, f"{TARGET}.lora_B.weight": UP[:, 0]},
        {
            f"{TARGET}.lora_A.weight": DOWN,
            f"{TARGET}.lora_B.weight": UP,
            f"{TARGET}.alpha": np.ones(2, np.float32),
        },
        {f"{TARGET}.lora_A.weight": DOWN * np.float32(np.nan), f"{TARGET}.lora_B.weight": UP},
        {f"{TARGET}.lora_A.weight": DOWN, f"{TARGET}.lora_B.weight": np.repeat(UP[..., None], 9, -1)},
        {f"{TARGET}.lora_A.weight": DOWN, f"{TARGET}.lora_B.weight": UP, f"{TARGET}.lora_down.weight": DOWN},
    ],
    ids=["rank 0", "no matrix", "vector", "two alphas", "nan", "kernel in up", "twice"],
)
def test_tensors_that_are_no_lora_are_refused(
    pipeline: Pipeline, tmp_path: Path, tensors: dict[str, Array]
) -> None:
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: "):
        pipeline.set_lora([(lora_files.write(tmp_path / "odd.safetensors", tensors), 1.0)])


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 4]}}',
        '{"a": 3}', '{"__metadata__": [1]}', '{"__metadata__": {"lora_adapter_metadata": 3}}', "[1]",
        "[" * 100_000,
    ],
)  # fmt: skip
def test_headers_that_contradict_themselves_are_refused(
    pipeline: Pipeline, tmp_path: Path, header: str
) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(4))
    with pytest.raises(CheckpointError, match="its header cannot be read"):
        pipeline.set_lora([(path, 1.0)])


@pytest.mark.parametrize(
    "adapters", [[("a.safetensors",)], ["ab"], [3], [("a.safetensors", float("nan"))], [("a", 10**400)]]
)
def test_what_are_no_adapters_is_refused(pipeline: Pipeline, adapters: Any) -> None:
    with pytest.raises(RequestError, match="`adapters`: expected"):
        pipeline.set_lora(adapters)


def test_what_is_no_lora_file_is_refused(pipeline: Pipeline, style: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(style.read_bytes()[:-10])
    longer = tmp_path / "longer.safetensors"
    longer.write_bytes(style.read_bytes() + b"more")
    pickle = tmp_path / "style.pt"
    pickle.write_bytes(b"x")
    for path, message in (
        (tmp_path / "missing.safetensors", "there is no file"),
        (pickle, "is no .safetensors file"),
        (cut, "is cut off"),
        (longer, "expected .* bytes, found"),
    ):
        with pytest.raises(CheckpointError, match=message):
            pipeline.set_lora([(path, 1.0)])


def test_a_bundle_that_was_replaced_is_not_read(tmp_path: Path, style: Path) -> None:
    root = shutil.copytree(bundle("plain"), tmp_path / "bundle")
    loaded = Pipeline.load(root, "onnxruntime", batches=[1], threads=1)
    digest, plain = loaded.bundle.digest, draw(loaded)
    with (root / "manifest.json").open("a") as file:
        file.write("\n")
    (root / "scheduler.json").write_text("{}")
    with pytest.raises(BundleError, match=f"was replaced since it was opened: .* {digest}, found "):
        loaded.set_lora([(style, 1.0)])

    found = loaded(PROMPT, num_inference_steps=3, seed=3, output_type="latent")
    assert np.array_equal(found.images, plain)
    assert found.parameters["bundle"] == digest
