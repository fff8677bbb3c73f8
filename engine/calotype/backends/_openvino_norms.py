"""Norms of a bundle's graphs, as OpenVINO computes them fastest.

Group norms in a bundle are instance norms of one row a group, whose scale is ones and whose bias zeros, scaled channel
by channel behind it. OpenVINO multiplies by the ones and adds the zeros all the same, and needs the channels one after
another, where convolutions have them side by side. In float32 the norm is written out, channel by channel, with the
variance from differences to the mean, and what was added to whole channels before, as a time embedding is, goes into
its terms; in bfloat16 that gains nothing, and what is left stays as it is.

Layer norms of bfloat16 come out of its reader between conversions to float32 and back. Its kernel computes in float32
all the same: without them a norm's numbers are equal to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset12 as ops

_BEHIND = ("Multiply", "Add", "Reshape", "Multiply", "Add")  # ones, zeros, the data's own shape, scale, bias
_BF16 = ov.Type.bf16
_MANY = 64  # pixels a side


def simplify(model: ov.Model) -> int:
    """Rewrite the group norms of `model`, and layer norms of bfloat16, in place; how many there were."""
    nodes: Any = model.get_ops()
    normals = [node for node in nodes if node.get_type_name() == "MVN"]
    widened = [normal for normal in normals if _narrow(normal)]
    groups = [norm for normal in normals if (norm := _group_norm(normal))]
    for norm in groups:
        if norm.data.get_element_type() == ov.Type.f32 and len(norm.data.get_shape()) == 4:
            norm.write_out()
        else:
            norm.unfolded.input(0).replace_source_output(norm.normal.output(0))
    if groups or widened:
        model.validate_nodes_and_infer_types()
    return len(groups) + len(widened)


@dataclass(frozen=True, slots=True)
class _GroupNorm:
    normal: Any  # MVN of (N, G, ...)
    unfolded: Any  # its reshape to (N, C, ...)
    scaled: Any  # times (C, 1, 1)
    moved: Any  # plus (C, 1, 1)

    @property
    def data(self) -> Any:
        """What is normalised (N, C, H, W)."""
        return self.normal.input_value(0).get_node().input_value(0)

    def write_out(self) -> None:
        """Means and variances of channels, then of groups, and a factor and a summand of each channel."""
        data, added = _parted(self.data)
        means = _channel_means(data)
        if added is None:
            offset = self._of_groups(means)
        else:
            offset = ops.subtract(self._of_groups(ops.add(means, added).output(0)), added)
        apart = ops.subtract(data, offset)
        variance = self._of_groups(_channel_means(ops.multiply(apart, apart).output(0)))
        epsilon = ops.constant(np.float32(self.normal.get_attributes()["eps"]))
        factor = ops.divide(self.scaled.input_value(1), ops.sqrt(ops.add(variance, epsilon)))
        summand = ops.subtract(self.moved.input_value(1), ops.multiply(offset, factor))
        whole = ops.add(ops.multiply(data, factor), summand)
        for use in self.moved.output(0).get_target_inputs():
            use.replace_source_output(whole.output(0))

    def _of_groups(self, channels: Any) -> Any:
        """The mean of its group for each of `channels` (N, C, 1, 1)."""
        N, C = channels.get_shape()[:2]
        G = self.normal.get_output_shape(0)[1]
        groups = ops.reduce_mean(
            ops.reshape(channels, ops.constant([N, G, C // G]), False), ops.constant([2]), True
        )
        return ops.reshape(ops.tile(groups, ops.constant([1, 1, C // G])), ops.constant([N, C, 1, 1]), False)


def _parted(data: Any) -> tuple[Any, Any | None]:
    """`data` (N, C, H, W) as a picture and what is added to its channels (N, C, 1, 1), where it is such a sum.

    A sum with one number a channel is computed with the channels apart, between two new layouts. The bias of a
    convolution is no such sum: it is the convolution's own.
    """
    total = data.get_node()
    if total.get_type_name() == "Add":
        for picture, added in (total.input_values(), total.input_values()[::-1]):
            of_channels = list(added.get_shape()) == [*data.get_shape()[:2], 1, 1] != list(data.get_shape())
            if of_channels and picture.get_node().get_type_name() != "Convolution":
                return picture, added
    return data, None


def _channel_means(data: Any) -> Any:
    """(N, C, 1, 1), by averages of whole pictures, or of 8 x 8 pixels first.

    `ReduceMean` is slower where channels do not fill a register, and adds up in one order in a graph, in another in the
    plan that was made of it.
    """
    H, W = data.get_shape()[2:]
    if min(H, W) >= _MANY and H % 8 == W % 8 == 0:
        return _averages(_averages(data, 8, 8), H // 8, W // 8)
    return _averages(data, H, W)


def _averages(data: Any, height: int, width: int) -> Any:
    """Of each patch of so many pixels."""
    size = [height, width]
    return ops.avg_pool(data, size, [0, 0], [0, 0], size, True).output(0)


def _narrow(normal: Any) -> bool:
    """Take conversions from bfloat16 to float32 before `normal` and back behind it out; whether they were there."""
    before = normal.input_value(0).get_node()
    uses = [use.get_node() for use in normal.output(0).get_target_inputs()]
    if before.get_type_name() != "Convert" or len(uses) != 1:
        return False
    (behind,) = uses
    types = (before.get_input_element_type(0), before.get_element_type(), behind.get_element_type())
    if behind.get_type_name() not in ("Convert", "ConvertLike") or types != (_BF16, ov.Type.f32, _BF16):
        return False
    normal.input(0).replace_source_output(before.input_value(0))
    for use in behind.output(0).get_target_inputs():
        use.replace_source_output(normal.output(0))
    return True


def _group_norm(normal: Any) -> _GroupNorm | None:
    """The group norm that `normal` belongs to; None where it is no part of one that looks like a bundle's."""
    chain = [normal]
    for kind in _BEHIND:
        uses = [use.get_node() for use in chain[-1].output(0).get_target_inputs()]
        following = [node for node in uses if node.get_type_name() != "ShapeOf"]
        if len(following) != 1 or following[0].get_type_name() != kind:
            return None
        chain.append(following[0])
    _, ones, zeros, unfolded, scaled, moved = chain
    if normal.input_value(0).get_node().get_type_name() != "Reshape":
        return None
    if not (_is_filled(ones.input_value(1), 1.0) and _is_filled(zeros.input_value(1), 0.0)):
        return None
    return _GroupNorm(normal, unfolded, scaled, moved)


def _is_filled(output: Any, number: float) -> bool:
    """Whether `output` is a constant, shaped or not, that holds `number` alone."""
    node = output.get_node()
    while node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return False
    data = node.get_data(dtype="float32")
    return bool((data == number).all())
