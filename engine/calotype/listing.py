"""What the command line shows: bundles, pictures, tokens and schedules, each as data and as text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calotype import compiled, memory
from calotype.bundle import Bundle
from calotype.errors import BundleError
from calotype.images import read_parameters
from calotype.manifest import ProgramSpec
from calotype.planning import plan
from calotype.plot import plot_schedule, table
from calotype.request import Request
from calotype.tokenizer import Tokenizer

Listing = tuple[Mapping[str, Any], str]


def picture(path: Path) -> Listing:
    """How the picture `path` was made, from its metadata."""
    parameters = read_parameters(path)
    return parameters, "\n".join(f"{name}: {value}" for name, value in parameters.items())


def bundle(path: Path) -> Listing:
    """What a bundle is: its manifest, whose files were found to be whole."""
    opened = Bundle.open(path)
    manifest = opened.manifest
    data = json.loads(manifest.to_json())
    budgets = _budgets(opened)
    lines = [
        f"{path.name}: {manifest.family}, {manifest.width}x{manifest.height}, {manifest.precision}, "
        f"{'guided' if manifest.guided else 'unguided'}, conditioning: {', '.join(manifest.conditioning) or 'none'}",
        f"scheduler: {opened.json('scheduler.json').get('_class_name')}",
        f"digest: {opened.digest}",
        "",
        *(_program(program) for program in manifest.programs),
        "",
        *_memory_lines(budgets),
    ]
    if manifest.parity:
        lines += ["", "parity with eager diffusers:", json.dumps(data["parity"], indent=1)]
    return data | {"digest": opened.digest, "memory": budgets}, "\n".join(lines)


def tokens(path: Path, prompt: str) -> Listing:
    """How the bundle at `path` cuts `prompt` into tokens."""
    opened = Bundle.open(path)
    root, length = opened.root, opened.manifest.max_length
    tokenizer = Tokenizer.load(root / "tokenizer.json", root / "tokenizer_config.json", length)
    found, pieces = tokenizer.encode(prompt), tokenizer.pieces(prompt)
    data = {
        "ids": found.ids.tolist(),
        "pieces": [{"piece": piece, "id": index} for piece, index in pieces],
        "count": found.count,
        "truncated": found.truncated,
    }
    lines = [f"{index:6d}  {piece}" for piece, index in pieces]
    lines.append(f"{found.count} tokens of at most {len(found.ids) - 2}")
    if found.truncated:
        lines.append(f"cut: {found.truncated}")
    return data, "\n".join(lines)


def schedule(path: Path, request: Request, plot: Path | None) -> Listing:
    """The table that `request` goes through with the bundle at `path`; drawn into `plot` where one is named."""
    opened = Bundle.open(path)
    found = plan(request, opened.json("scheduler.json"), opened.manifest.state_slots)
    if plot is not None:
        plot_schedule(found, plot)
    names = ("timesteps", "sigmas", "read", "write", "draws", "steps", "blend")
    data = {
        "scheduler": found.name,
        "init_noise_sigma": found.init_noise_sigma,
        "add_noise": list(found.add_noise),
        **{name: getattr(found, name).tolist() for name in names},
    }
    return data, table(found)


def _budgets(bundle: Bundle) -> dict[str, dict[str, int]]:
    """Bytes by what takes them: of the graphs as exported, and of everything that was compiled."""
    budgets = {"exported": memory.of_graphs(bundle.manifest.programs)}
    for path, one in compiled.every(bundle.root):
        if isinstance(one, BundleError):
            continue  # nothing can be loaded from it
        if one.backend == compiled.FUSED:  # sessions of the same weights, with fewer values between nodes
            budget = budgets["exported"]
        else:
            budget = memory.of_plans(one.plans, recorded=not one.machine.processor)
        budgets[f"{one.backend} {path.parent.name}"] = budget
    return {name: dataclasses.asdict(one) | {"total": one.total} for name, one in budgets.items()}


def _memory_lines(budgets: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = ["memory on a GPU with every batch size loaded (of exported graphs an estimate, node by node):"]
    for name, sizes in budgets.items():
        lines.append(
            f"  {name}: " + ", ".join(f"{key} {size / 2**20:.1f} MiB" for key, size in sizes.items())
        )
    return lines


def _program(program: ProgramSpec) -> str:
    size = sum(file.size for file in program.files) / 2**20
    inputs, outputs = (
        ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in tensors)
        for tensors in (program.inputs, program.outputs)
    )
    return f"{program.name} batch {program.batch}, {program.precision}, {size:.1f} MiB: {inputs} -> {outputs}"
