"""Activations behind products, where there is no AVX-512."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.bundles import bundle

ov = pytest.importorskip("openvino", reason="openvino is not installed")
ops = pytest.importorskip("openvino.opset12", reason="openvino is not installed")

from calotype.backends import _host, _openvino_activations  # noqa: E402  (needs OpenVINO)

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
SHAPE = (2, 7, 16)


def activated(kind: str, product: Any) -> Any:
    if kind != "quick gelu":
        return ops.gelu(product, kind.removesuffix(" gelu"))
    factor = ops.constant(np.array(1.702, product.get_element_type().to_dtype()))
    return ops.multiply(product, ops.sigmoid(ops.multiply(product, factor)))


def feed_forward(kind: str, other: str = "") -> Any:
    """Two products with an activation between them, as OpenVINO reads them, but for `other`."""
    random = np.random.default_rng(0)
    first, bias, second = (random.standard_normal(sides).astype("f") for sides in ((16, 32), 32, (32, 16)))
    if other == "float16":
        first, bias, second = (each.astype(np.float16) for each in (first, bias, second))
    data, given = (ops.parameter(sides, first.dtype) for sides in (SHAPE, first.shape))
    product = ops.matmul(
        data, given if other == "weights that come in" else ops.constant(first), False, False
    )
    if other != "no bias":
        product = ops.add(product, ops.constant(bias))
    results = [ops.matmul(activated(kind, product), ops.constant(second), False, False)]
    if other == "a product used elsewhere":
        results.append(ops.negative(product))
    return ov.Model(results, [data, given] if other == "weights that come in" else [data])


def computed(model: Any) -> tuple[Any, list[str]]:
    """The model's output, and what its first product is computed together with."""
    compiled = ov.compile_model(model, "CPU", SETTINGS)
    data = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    layers = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    names = [
        layer["originalLayersNames"].astype(str)
        for layer in layers
        if layer["layerType"].astype(str) == "FullyConnected"
    ]
    return next(iter(compiled(data).values())), names[0].split(",")


@pytest.mark.parametrize("kind", ["erf gelu", "quick gelu"])
def test_products_are_computed_without_their_activations_to_the_same_numbers(kind: str) -> None:
    before, after = feed_forward(kind), feed_forward(kind)
    assert _openvino_activations.write_out(after) == 1
    (expected, fused), (found, alone) = computed(before), computed(after)
    assert len(alone) < len(fused)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("other", ["no bias", "float16", "weights that come in", "a product used elsewhere"])
@pytest.mark.parametrize("kind", ["erf gelu", "quick gelu"])
def test_what_only_looks_like_one_stays(kind: str, other: str) -> None:
    assert _openvino_activations.write_out(feed_forward(kind, other)) == 0


def test_another_gelu_stays() -> None:
    assert _openvino_activations.write_out(feed_forward("tanh gelu")) == 0


@pytest.mark.parametrize("kind", ["erf gelu", "quick gelu"])
def test_numbers_far_from_zero_stay_finite(kind: str) -> None:
    model = feed_forward(kind)
    assert _openvino_activations.write_out(model) == 1
    far = ov.compile_model(model, "CPU", SETTINGS)(np.full(SHAPE, 1e4, np.float32))
    assert np.isfinite(next(iter(far.values()))).all()


@pytest.mark.parametrize(
    ("processor", "places"),
    [
        ("Some avx2", 1),
        ("Some avx2 avx512f", 0),
        ("Some avx2 avx512f amx_bf16", 0),
        ("Some asimd", 0),
        ("", 0),
    ],
)
def test_only_where_it_gains(processor: str, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_host, "processor", lambda: processor)
    assert _openvino_activations.simplify(feed_forward("erf gelu")) == places


@pytest.mark.parametrize(
    ("name", "program", "places"), [("plain", "text_encoder", 3), ("depth", "depth_estimator", 6)]
)
def test_every_one_of_a_bundle_is_written_out(name: str, program: str, places: int) -> None:
    model = ov.Core().read_model(bundle(name) / "onnx" / f"{program}.onnx")
    assert _openvino_activations.write_out(model) == places
