"""What a bundle's programs take of a device's memory, told before they are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from calotype.compiled import Plan
from calotype.errors import BackendError
from calotype.manifest import ITEM_BYTES, ProgramSpec, TensorSpec

# One kernel in a recorded graph. An estimate: CUDA does not say, and it was not measured.
_BYTES_PER_NODE = 2048
# A recorded schedule holds every kernel of every row: one that is longer is launched row by row.
LONGEST_SCHEDULE = 128
SCHEDULES_KEPT = 2
# Inputs of the step that change from row to row; a recorded schedule keeps them in a table.
_OF_A_ROW = ("read", "write", "blend", "time_features", "noise")


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes by what they are for."""

    weights: int
    tensors: int  # inputs and outputs, at fixed addresses, and what is handed on for as many pictures as one step takes
    activations: int
    graphs: int  # of one recorded run each, and of the step as many recorded rows as are ever kept, with their tables

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.tensors + self.activations + self.graphs


def of_plans(plans: Sequence[Plan], recorded: bool = True) -> Budget:
    """What `plans` take, as their builder said; `recorded`: their kernels are kept in graphs too, as on a GPU.

    They never run together, and the largest one's activations serve them all.
    """
    return Budget(
        weights=sum(plan.weight_bytes for plan in plans),
        tensors=_tensor_bytes(plans),
        activations=max((plan.activation_bytes for plan in plans), default=0),
        graphs=recorded * sum(_graph_bytes(plan) for plan in plans),
    )


def _tensor_bytes(programs: Sequence[Plan | ProgramSpec]) -> int:
    """Every tensor, and copies of what the largest step takes and gives: embeddings, latents, pictures."""
    largest = max(
        (one for one in programs if one.name == "unet_step"), key=lambda one: one.batch, default=None
    )
    handed = 0
    if largest is not None:
        handed = tensor_bytes(tensor for tensor in largest.inputs if tensor.name == "embeddings")
        decoders = (one for one in programs if one.name == "vae_decoder")
        handed += largest.batch * sum(tensor_bytes((*one.inputs, *one.outputs)) for one in decoders)
    return handed + sum(tensor_bytes((*one.inputs, *one.outputs)) for one in programs)


def _graph_bytes(plan: Plan) -> int:
    run = int(sum(plan.layers.values())) * _BYTES_PER_NODE
    if plan.name != "unet_step":
        return run
    row = run + tensor_bytes(tensor for tensor in plan.inputs if tensor.name in _OF_A_ROW)
    return run + row * LONGEST_SCHEDULE * SCHEDULES_KEPT


def of_graphs(specs: Sequence[ProgramSpec], recorded: bool = True) -> Budget:
    """What `specs` take as they are exported, in sessions with weights and activations of their own: an estimate.

    `recorded`: a run of each is kept in a graph too, as on a GPU, with a kernel a node.
    """
    return Budget(
        weights=sum(file.size for spec in specs for file in spec.files),
        tensors=_tensor_bytes(specs),
        activations=sum(spec.activation_bytes for spec in specs),
        graphs=recorded * sum(spec.nodes for spec in specs) * _BYTES_PER_NODE,
    )


def check(needed: Budget, free: int, device: str) -> None:
    """BackendError with both numbers where the budget does not fit into the `free` bytes of `device`."""
    if needed.total > free:
        raise BackendError(
            f"{device}: the programs need {_mebibytes(needed.total)} (weights {_mebibytes(needed.weights)}, "
            f"tensors {_mebibytes(needed.tensors)}, activations {_mebibytes(needed.activations)}, "
            f"graphs {_mebibytes(needed.graphs)}), and {_mebibytes(free)} are free",
            "load fewer batch sizes with `batches`, free memory on the device, or take a larger one",
        )


def tensor_bytes(tensors: Iterable[TensorSpec]) -> int:
    """What `tensors` take, in bytes."""
    return sum(prod(tensor.shape) * ITEM_BYTES[tensor.dtype] for tensor in tensors)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
