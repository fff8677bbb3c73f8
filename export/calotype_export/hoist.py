"""Take out of `unet_step` what rows have in common, by a graph pass: a program per prompt and one per timestep.

The keys and values of all cross-attentions depend on the embeddings alone, and the residual blocks' projections of the
time embedding on the timestep alone. The pass knows no names of layers: it cuts where a value that depends on those
inputs alone meets one that depends on more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

PROMPT_INPUTS = frozenset({"embeddings"})
ROW_INPUTS = frozenset({"time_features", "timestep_cond"})


@dataclass(frozen=True, slots=True)
class Hoisted:
    """The three parts of a step. `step` takes the outputs of the others, by name, in place of their inputs."""

    prompt: ir.Model
    row: ir.Model
    step: ir.Model


def split(model: ir.Model) -> Hoisted:
    """Cut the graph of a `unet_step`. Its weights stay where they are; `model` gets new names for the cut values."""
    depends = _dependencies(model.graph)
    prompt = _rename(_frontier(model.graph, depends, PROMPT_INPUTS), "prompt")
    row = _rename(_frontier(model.graph, depends, ROW_INPUTS), "row")
    inputs = [value for value in model.graph.inputs if value.name not in PROMPT_INPUTS | ROW_INPUTS]
    return Hoisted(
        prompt=_part(model, _named(model, PROMPT_INPUTS), prompt),
        row=_part(model, _named(model, ROW_INPUTS), row),
        step=_part(model, [*inputs, *prompt, *row], list(model.graph.outputs)),
    )


Dependencies = Mapping[ir.Value, frozenset[str]]


def _dependencies(graph: ir.Graph) -> Dependencies:
    """The names of the inputs that each value is computed from."""
    found: dict[ir.Value, frozenset[str]] = {value: frozenset({str(value.name)}) for value in graph.inputs}
    for node in graph:
        of = frozenset[str]().union(
            *(found.get(value, frozenset()) for value in node.inputs if value is not None)
        )
        found |= dict.fromkeys(node.outputs, of)
    return found


def _frontier(graph: ir.Graph, depends: Dependencies, names: frozenset[str]) -> list[ir.Value]:
    """Values of `names` alone that a node takes which depends on more, in the order in which they are made."""
    return [
        value
        for node in graph
        for value in node.outputs
        if depends[value] and depends[value] <= names
        if any(not depends[user.outputs[0]] <= names for user, _ in value.uses())
    ]


def _rename(values: Sequence[ir.Value], stem: str) -> list[ir.Value]:
    for index, value in enumerate(values):
        value.name = f"{stem}_{index}"
    return list(values)


def _named(model: ir.Model, names: frozenset[str]) -> list[ir.Value]:
    return [value for value in model.graph.inputs if value.name in names]


def _part(model: ir.Model, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Model:
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    return ir.Model(graph, ir_version=model.ir_version)
