"""Norms of a bundle's graphs, as OpenVINO computes them fastest.

Group norms in a bundle are instance norms of one row a group, whose scale is ones and whose bias zeros, scaled channel
by channel behind it. OpenVINO multiplies by the ones and adds the zeros all the same, and needs the channels one after
another, where convolutions have them side by side. In float32 the norm is written out, channel by channel, with the
variance from differences to the mean, and what was added to whole channels before, as a time embedding is, goes into
its terms; in bfloat16 that gains nothing, and what is left stays as it is. The norms of a VAE's encoder are written out
in a float32 bundle already, in rows of pixels (`calotype_export/group_norm.py`), and are rewritten in the same way.

Layer norms of bfloat16 come out of its reader between conversions to float32 and back. Its kernel computes in float32
all the same: without them a norm's numbers are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset12 as ops

_BEHIND = ("Multiply", "Add", "Reshape", "Multiply", "Add")  # ones, zeros, the data's own shape, scale, bias
# Of a norm written out in rows, around the root of its variance
_BEHIND_ROOT = ("Divide", "Multiply", "Reshape", "Multiply", "Add")
_BEFORE_ROOT = ("Add", "ReduceMean", "ReduceMean", "Multiply", "Subtract", "Reshape")
_BF16 = ov.Type.bf16
_MANY = 64  # pixels a side


def simplify(model: ov.Model) -> int:
    """Rewrite the group norms of `model`, and layer norms of bfloat16, in place; how many there were."""
    nodes: Any = model.get_ops()
    normals = [node for node in nodes if node.get_type_name() == "MVN"]
    widened = [normal for normal in normals if _narrow(normal)]
    roots = [node for node in nodes if node.get_type_name() == "Sqrt"]
    groups = [norm for normal in normals if (norm := _group_norm(normal))]
    groups += [norm for root in roots if (norm := _norm_in_rows(root))]
    for norm in groups:
        if norm.data.get_element_type() == ov.Type.f32 and len(norm.data.get_shape()) == 4:
            norm.write_out()
        elif norm.normal is not None:
            norm.unfolded.input(0).replace_source_output(norm.normal.output(0))
    if groups or widened:
        model.validate_nodes_and_infer_types()
    return len(groups) + len(widened)


@dataclass(frozen=True, slots=True)
class _GroupNorm:
    data: Any  # what is normalised (N, C, H, W)
    groups: int
    epsilon: float
    unfolded: Any  # the normal's reshape to (N, C, ...)
    scaled: Any  # times (C, 1, 1)
    moved: Any  # plus (C, 1, 1)
    normal: Any = None  # MVN of (N, G, ...), where it is one

    def write_out(self) -> None:
        """Means and variances of channels, then of groups, and a factor and a summand of each channel.

        Of what is for channels, nothing has the four sides of a picture until a picture is computed with it: OpenVINO
        would compute it in one kernel with that, anew for every pixel.
        """
        data, added = _parted(self.data)
        means = _channel_means(data)
        if added is None:
            offset = self._of_groups(means)
        else:
            embedding = ops.reshape(added, ops.constant(list(data.get_shape()[:2])), False)
            offset = ops.subtract(self._of_groups(ops.add(means, embedding)), embedding)
        squares = ops.squared_difference(data, _of_picture(offset))
        variance = self._of_groups(_channel_means(squares.output(0)))
        scale, bias = (
            ops.reshape(each.input_value(1), ops.constant([-1]), False) for each in (self.scaled, self.moved)
        )
        epsilon = ops.constant(np.float32(self.epsilon))
        factor = ops.divide(scale, ops.sqrt(ops.add(variance, epsilon)))
        summand = ops.subtract(bias, ops.multiply(offset, factor))
        whole = ops.add(ops.multiply(data, _of_picture(factor)), _of_picture(summand))
        for use in self.moved.output(0).get_target_inputs():
            use.replace_source_output(whole.output(0))

    def _of_groups(self, channels: Any) -> Any:
        """The mean of its group for each of `channels` (N, C)."""
        N, C = channels.get_output_shape(0)
        G = self.groups
        groups = ops.reduce_mean(
            ops.reshape(channels, ops.constant([N, G, C // G]), False), ops.constant([2]), True
        )
        return ops.reshape(ops.tile(groups, ops.constant([1, 1, C // G])), ops.constant([N, C]), False)


def _of_picture(channels: Any) -> Any:
    """`channels` (N, C), as (N, C, 1, 1)."""
    return ops.reshape(channels, ops.constant([*channels.get_output_shape(0), 1, 1]), False)


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
    """(N, C), by averages of whole pictures, or of 8 x 8 pixels first.

    `ReduceMean` is slower where channels do not fill a register, and adds up in one order in a graph, in another in the
    plan that was made of it.
    """
    N, C, H, W = data.get_shape()
    if min(H, W) >= _MANY and H % 8 == W % 8 == 0:
        means = _averages(_averages(data, 8, 8), H // 8, W // 8)
    else:
        means = _averages(data, H, W)
    return ops.reshape(means, ops.constant([N, C]), False)


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
    behind = _chain(normal, _BEHIND)
    if behind is None:
        return None
    ones, zeros, unfolded, scaled, moved = behind
    if normal.input_value(0).get_node().get_type_name() != "Reshape":
        return None
    if not (_is_filled(ones.input_value(1), 1.0) and _is_filled(zeros.input_value(1), 0.0)):
        return None
    data = normal.input_value(0).get_node().input_value(0)
    epsilon = float(normal.get_attributes()["eps"])
    return _GroupNorm(data, normal.get_output_shape(0)[1], epsilon, unfolded, scaled, moved, normal)


def _norm_in_rows(root: Any) -> _GroupNorm | None:
    """The group norm, written out in rows (N, G, R, W), that takes the deviation `root`; None where it is none."""
    behind, before = _chain(root, _BEHIND_ROOT), _sources(root, _BEFORE_ROOT)
    if behind is None or before is None:
        return None
    inverse, normal, unfolded, scaled, moved = behind
    total, variance, _, square, centred, rows = before
    mean = _sources(centred.input_value(1).get_node(), ("ReduceMean", "Reshape"))
    shape = list(rows.get_output_shape(0))
    of_groups = (
        list(each.get_shape()) == [*shape[:2], 1, 1] for each in (centred.input_value(1), variance.output(0))
    )
    if mean is None or mean[-1] != rows or not all(of_groups):
        return None
    if not (_is_filled(inverse.input_value(0), 1.0) and _is_constant(total.input_value(1))):
        return None
    if {each.get_node() for each in (*square.input_values(), normal.input_value(0))} != {centred}:
        return None
    data, epsilon = rows.input_value(0), float(total.input_value(1).get_node().get_data().item())
    if len(data.get_shape()) != 4:  # as before attention, which has positions in place of a picture
        return None
    return _GroupNorm(data, shape[1], epsilon, unfolded, scaled, moved)


def _chain(node: Any, kinds: Sequence[str]) -> list[Any] | None:
    """The nodes of these kinds behind `node`, each the only use of the one before; None where others are there."""
    found = [node]
    for kind in kinds:
        uses = [use.get_node() for use in found[-1].output(0).get_target_inputs()]
        following = [each for each in uses if each.get_type_name() != "ShapeOf"]
        if len(following) != 1 or following[0].get_type_name() != kind:
            return None
        found.append(following[0])
    return found[1:]


def _sources(node: Any, kinds: Sequence[str]) -> list[Any] | None:
    """The nodes of these kinds before `node`, each the first input of the one behind; None where others are there."""
    found = [node]
    for kind in kinds:
        source = found[-1].input_value(0).get_node()
        if source.get_type_name() != kind:
            return None
        found.append(source)
    return found[1:]


def _is_filled(output: Any, number: float) -> bool:
    """Whether `output` is a constant, shaped or not, that holds `number` alone."""
    node = output.get_node()
    while node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    if not _is_constant(node.output(0)):
        return False
    data = node.get_data(dtype="float32")
    return bool((data == number).all())


def _is_constant(output: Any) -> bool:
    return bool(output.get_node().get_type_name() == "Constant")
