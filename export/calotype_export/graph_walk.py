"""What makes a value of a graph, what reads it, and which shape it has."""

from __future__ import annotations

import onnx_ir as ir


def reader(node: ir.Node) -> ir.Node | None:
    """The one node that reads the only output of `node`, if the graph does not give it out."""
    readers = [use.node for output in node.outputs for use in output.uses()]
    given_out = any(output.is_graph_output() for output in node.outputs)
    return readers[0] if len(readers) == 1 and not given_out else None


def maker(value: ir.Value | None) -> ir.Node | None:
    """What makes `value`, if it is read once and the graph does not give it out."""
    if value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    return value.producer()


def sides(value: ir.Value | None) -> tuple[int, ...]:
    """The shape of `value`; empty where it is not known."""
    if value is None or value.shape is None or not value.shape.is_static():
        return ()
    return value.shape.numpy()
