"""Attention of three dimensions, (batch, tokens, heads x channels), in place of that of four with transposes around it.

ONNX defines both. What is traced has four: queries, keys and values are parted into heads and transposed before it, and
what comes of it is put together after. ONNX Runtime's CUDA provider transposes them back for its kernels, which read
the heads where they lie. A causal mask becomes the operator's own.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from calotype_export.graph_walk import reader, sides
from calotype_export.new_nodes import OWN, NewNodes

_SWAP = (0, 2, 1, 3)  # heads and tokens


def join(model: ir.Model) -> bool:
    """Replace every attention of `model` that can be; whether there was one."""
    graph, found = model.graph, 0
    for node in [node for node in graph if node.op_type == "Attention" and not node.domain]:
        tokens, last = [_before(value) for value in node.inputs[:3]], _after(node)
        heads = {
            value.shape.numpy()[1] if value is not None and value.shape else None for value in node.inputs[:3]
        }
        if last is None or None in tokens or len(heads) != 1:
            continue
        (output,) = last.outputs
        if output.shape is None or output.dtype is None:
            continue
        (count,) = heads
        settings = {name: attribute.value for name, attribute in node.attributes.items()}
        settings |= {"q_num_heads": count, "kv_num_heads": count}
        others = [*node.inputs[3:]]
        if (
            others
            and _is_causal(others[0])
            and [*sides(others[0])[-2:]] == [sides(each)[1] for each in tokens[:2]]
        ):
            others, settings["is_causal"] = others[1:] and [None, *others[1:]], 1
        made = NewNodes(graph, f"attention_{found}")
        result = made.add("Attention", [*tokens, *others], output.shape.numpy(), output.dtype, **settings)
        made.replace(last, result)
        found += 1
    RemoveUnusedNodesPass()(model)
    return found > 0


def own(model: ir.Model) -> bool:
    """Put ONNX Runtime's own operator in place of ONNX's in half precision; whether there was one.

    On an H200 the kernels that ONNX Runtime 1.31.1 takes for ONNX's operator are wrong in float16 with the heads of
    Stable Diffusion 1.5's UNet: a step of DDIM ended 9.2e-3 (relative L2) from float32's, with its own operator (and
    the sums of `fused_biases`) 1.1e-4 (`benchmarks/results/h200-attention.json`). In float32 `tests/gpu` saw nothing.
    """
    if not _is_half(model.graph):
        return False
    nodes = [node for node in model.graph if node.op_type == "Attention" and not node.domain]
    changed = [_replace_by_own(model.graph, node) for node in nodes]
    if any(changed):
        model.opset_imports[OWN] = 1
    return any(changed)


def _is_half(graph: ir.Graph) -> bool:
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return any(value.dtype in half for value in (*graph.inputs, *graph.initializers.values()))


def _replace_by_own(graph: ir.Graph, node: ir.Node) -> bool:
    said = {name: attribute.value for name, attribute in node.attributes.items()}
    heads, scale = said.pop("q_num_heads", 0), said.pop("scale", None)
    plain = said.pop("kv_num_heads", heads) == heads and not any(said.values())
    if not heads or not plain or len(node.inputs) > 3 or len(node.outputs) > 1:
        return False
    settings = {"num_heads": heads} | ({} if scale is None else {"scale": scale})
    NewNodes(graph, f"{node.name}_own").instead(node, "MultiHeadAttention", node.inputs, **settings)
    return True


def note_causal_masks(model: ir.Model) -> None:
    """Note at each mask that is causal that it is, for when its numbers are elsewhere."""
    for node in model.graph:
        mask = node.inputs[3] if node.op_type == "Attention" and len(node.inputs) > 3 else None
        if mask is not None:
            mask.meta["causal"] = _is_causal(mask)


def _is_causal(mask: ir.Value | None) -> bool:
    """Whether a token sees itself and those before it: then the operator needs no mask, and has faster kernels."""
    if mask is None or "causal" in mask.meta:
        return mask is not None and bool(mask.meta["causal"])
    if mask.const_value is None or mask.dtype != ir.DataType.BOOL:
        return False
    seen = mask.const_value.numpy()
    return seen.shape[-1] == seen.shape[-2] and bool(np.all(seen == np.tri(seen.shape[-1], dtype=bool)))


def _before(value: ir.Value | None) -> ir.Value | None:
    """The tokens (batch, tokens, heads x channels) that `value` (batch, heads, tokens, channels) is made of."""
    transpose = value.producer() if value is not None else None
    parted = transpose.inputs[0] if _swaps(transpose) and transpose is not None else None
    reshape = parted.producer() if parted is not None else None
    if reshape is None or reshape.op_type != "Reshape" or parted is None or parted.shape is None:
        return None
    tokens = reshape.inputs[0]
    batch, count, heads, channels = parted.shape.numpy()
    whole = (
        tokens is not None and tokens.shape is not None and tokens.shape == (batch, count, heads * channels)
    )
    return tokens if whole else None


def _after(node: ir.Node) -> ir.Node | None:
    """The node that puts the heads of what comes of `node` side by side again, if nothing else reads it."""
    transpose = reader(node)
    reshape = reader(transpose) if _swaps(transpose) and transpose is not None else None
    if reshape is None or reshape.op_type != "Reshape":
        return None
    parted, joined = reshape.inputs[0], reshape.outputs[0]
    if parted is None or parted.shape is None:
        return None
    batch, count, heads, channels = parted.shape.numpy()
    return reshape if joined.shape == (batch, count, heads * channels) else None


def _swaps(node: ir.Node | None) -> bool:
    if node is None or node.op_type != "Transpose" or "perm" not in node.attributes:
        return False
    return tuple(node.attributes["perm"].as_ints()) == _SWAP
