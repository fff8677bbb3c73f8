"""ONNX Runtime's fused operators by their definitions (its `docs/ContribOperators.md`), in numpy."""

from __future__ import annotations

from math import erf
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = NDArray[np.float32]


class _Fused(OpRun):
    op_domain = "com.microsoft"

    def _run(self, *inputs: Any, **_: Any) -> tuple[Any, ...]:
        settings = {
            attribute.name: onnx.helper.get_attribute_value(attribute)
            for attribute in self.onnx_node.attribute
        }
        outputs = self.compute(settings, *inputs)
        return outputs[: len(self.onnx_node.output)]

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        raise NotImplementedError


class GroupNorm(_Fused):
    """x (N, H, W, C), gamma and beta (C,)."""

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        x, gamma, beta = inputs
        return (group_norm(settings, x, gamma, beta),)


class SkipGroupNorm(_Fused):
    """x (N, H, W, C), gamma and beta (C,), skip as x or (N, C) or (N, 1, 1, C), and perhaps a bias (C,)."""

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        x, gamma, beta, skip, *bias = inputs
        if skip.ndim == 2:
            skip = skip[:, None, None]
        whole = x + skip + (bias[0] if bias else 0)
        return group_norm(settings, whole, gamma, beta), whole


class SkipLayerNormalization(_Fused):
    """x and skip (N, T, C), gamma and beta (C,), and perhaps a bias (C,)."""

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        x, skip, gamma, beta, *bias = inputs
        whole = x + skip + (bias[0] if bias else 0)
        mean, variance = whole.mean(-1, keepdims=True), whole.var(-1, keepdims=True)
        normal = (whole - mean) / np.sqrt(variance + settings["epsilon"])
        return (normal * gamma + beta).astype(x.dtype), mean, variance, whole


class NhwcConv(_Fused):
    """x (N, H, W, C), weight (M, kH, kW, C), bias (M,)."""

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        x, weight, *bias = inputs
        graph = onnx.parser.parse_graph(
            "conv (float[N,C,H,W] x, float[M,K,L,P] w, float[M] b) => (float[N,M,Y,X] y) { y = Conv(x, w, b) }"
        )
        for name, value in settings.items():
            graph.node[0].attribute.append(onnx.helper.make_attribute(name, value))
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
        given = {
            "x": x.transpose(0, 3, 1, 2),
            "w": weight.transpose(0, 3, 1, 2),
            "b": bias[0] if bias else np.zeros(len(weight), np.float32),
        }
        found: Any = ReferenceEvaluator(model).run(None, given)
        return (found[0].transpose(0, 2, 3, 1),)


class BiasSplitGelu(_Fused):
    """x (N, T, 2 C), bias (2 C,)."""

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        x, bias = inputs
        kept, gate = np.split(x + bias, 2, axis=-1)
        return ((kept * gate * 0.5 * (1 + np.vectorize(erf)(gate / np.sqrt(2)))).astype(x.dtype),)


class BiasAdd(_Fused):
    """x and skip (N, T, C), bias (C,)."""

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        x, bias, skip = inputs
        return (x + bias + skip,)


class MultiHeadAttention(_Fused):
    """Queries (N, T, H C), keys and values (N, S, H C)."""

    def compute(self, settings: dict[str, Any], *inputs: Any) -> tuple[Any, ...]:
        heads = settings["num_heads"]
        q, k, v = (
            each.astype(np.float32).reshape(*each.shape[:2], heads, -1).transpose(0, 2, 1, 3)
            for each in inputs
        )
        weights = np.exp(q @ k.swapaxes(2, 3) * settings.get("scale", q.shape[-1] ** -0.5))
        found = (weights / weights.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3)
        return (found.reshape(inputs[0].shape).astype(inputs[0].dtype),)


class Resize(OpRun):
    """Nearest neighbours by whole factors: that of onnx 1.23 fails with today's numpy."""

    op_domain = ""

    def _run(self, x: Any, roi: Any, scales: Any, *_: Any, **settings: Any) -> tuple[Any]:
        del roi
        assert (settings["mode"], settings["coordinate_transformation_mode"]) == ("nearest", "asymmetric")
        assert tuple(scales[:2]) == (1, 1)
        return (x.repeat(int(scales[2]), 2).repeat(int(scales[3]), 3),)


def group_norm(settings: dict[str, Any], x: Array, gamma: Array, beta: Array) -> Array:
    assert settings.get("channels_last", 1) == 1
    groups = x.reshape(x.shape[0], -1, settings["groups"], x.shape[-1] // settings["groups"]).astype(
        np.float64
    )
    mean, variance = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    normal = ((groups - mean) / np.sqrt(variance + settings["epsilon"])).reshape(x.shape) * gamma + beta
    if settings["activation"]:
        normal = normal / (1 + np.exp(-normal))
    return normal.astype(x.dtype)


OPERATORS: list[type[OpRun]] = [
    GroupNorm,
    SkipGroupNorm,
    SkipLayerNormalization,
    NhwcConv,
    BiasSplitGelu,
    BiasAdd,
    MultiHeadAttention,
    Resize,
]
