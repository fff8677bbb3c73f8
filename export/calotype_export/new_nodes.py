"""Nodes that are put into a graph in place of another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

OWN = "com.microsoft"  # the domain of ONNX Runtime's own operators


class NewNodes:
    """Nodes and constants for `graph`, whose names begin with `name`, in the order in which they are made."""

    def __init__(self, graph: ir.Graph, name: str) -> None:
        self._graph = graph
        self._name = name
        self._made: list[ir.Node] = []

    def add(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        sides: Sequence[int],
        dtype: ir.DataType,
        **attributes: Any,
    ) -> ir.Value:
        """A node of one output, of shape `sides`."""
        name = f"{self._name}_{kind}_{len(self._made)}"
        self._made.append(ir.node(kind, inputs, attributes, name=name))
        (output,) = self._made[-1].outputs
        output.name = f"{self._name}_{len(self._made)}"
        output.shape, output.type = ir.Shape(sides), ir.TensorType(dtype)
        return output

    def instead(self, node: ir.Node, kind: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> None:
        """Put ONNX Runtime's own operator `kind` in place of `node`, whose only output stays as it is."""
        self._made.append(ir.node(kind, inputs, attributes, domain=OWN, name=f"{self._name}_{kind}"))
        (old,), (new,) = node.outputs, self._made[-1].outputs
        new.shape, new.type = old.shape, old.type
        self.replace(node, new)

    def constant(self, what: str, array: NDArray[Any]) -> ir.Value:
        """An initializer."""
        tensor = ir.tensor(array, name=f"{self._name}_{what}")
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(name=tensor.name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
        self._graph.initializers[f"{self._name}_{what}"] = value
        return value

    def replace(self, node: ir.Node, result: ir.Value) -> None:
        """Put the nodes before `node`, `result` in place of its output, and take it out with constants of its own."""
        self._graph.insert_before(node, self._made)
        (output,) = node.outputs
        ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
        result.name, output.name = output.name, None
        read = node.inputs
        self._graph.remove(node, safe=True)
        for value in read:
            if value is not None and value.name is not None and not value.uses():
                self._graph.initializers.pop(value.name, None)
