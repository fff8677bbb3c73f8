"""What ONNX Runtime's own transformer optimiser makes of a program, kept where it is faster on this machine's GPU.

The optimiser comes with ONNX Runtime (`onnxruntime.transformers`). It puts operators of the CUDA provider in place of
groups of nodes: group norm with SiLU and the sum before it, layer norm with the sum before it, convolutions in NHWC.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import logging
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir

from calotype import backends
from calotype.backends import Array, BackendOptions, Program
from calotype.backends._contract import label
from calotype.manifest import ProgramSpec
from calotype_export import bundle_files, cuda_graph, gates, signatures
from calotype_export.host_plans import HostPlan, summary
from calotype_export.progress import Progress
from calotype_export.timed_run import in_turn, run

# Program -> the optimiser's name for such a model; it has none for the others.
MODEL_TYPES: Final[Mapping[str, str]] = {
    "text_encoder": "clip",
    "unet_step": "unet",
    "vae_encoder": "vae",
    "vae_decoder": "vae",
}
# What of it is left out, by the name of the folder that a candidate is written to.
CANDIDATES: Final[Mapping[str, Mapping[str, bool]]] = {
    "fused": {},
    "fused_but_convolutions": {"enable_nhwc_conv": False},
}
_RUNS = 20
_WON = 15  # of 20 runs in turn; by chance once in 50
_ROUNDINGS = 16
# What the manifest of such plans says of how they were chosen.
SETTINGS: Final[Mapping[str, object]] = {
    "candidates": [*CANDIDATES],
    "runs": _RUNS,
    "won": _WON,
    "roundings": _ROUNDINGS,
}
_BOUNDS = {"fp16": _ROUNDINGS * 2.0**-11}  # relative L2 of what is exported so


def optimise(root: Path, spec: ProgramSpec, folder: Path, **changes: bool) -> ProgramSpec:
    """Write the optimiser's graph of the program `spec` of the bundle at `root` into `folder`; the spec of that.

    `changes` are made to its `FusionOptions`. Whatever the optimiser raises is raised.
    """
    optimizer: Any = importlib.import_module("onnxruntime.transformers.optimizer")
    options: Any = importlib.import_module("onnxruntime.transformers.fusion_options")
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    kind = MODEL_TYPES[spec.name]
    wanted = options.FusionOptions(kind)
    for name, value in changes.items():
        setattr(wanted, name, value)
    graph = onnx.load(root / spec.files[0].path)
    attentions = _disguise_attentions(graph)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        model = optimizer.optimize_model(graph, kind, optimization_options=wanted, opt_level=0, use_gpu=True)
    _restore_attentions(model.model, attentions)
    _replace_unknown(model.model)
    folder.mkdir()
    path = folder / f"{spec.name}_{spec.batch}.onnx"
    model.save_model_to_file(str(path), use_external_data_format=True)
    files = tuple(bundle_files.describe(one, folder) for one in sorted(folder.iterdir()))
    return dataclasses.replace(spec, files=files, parameters=(), cuda_files=())


def _disguise_attentions(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Put `Clip` in place of `Attention`: its result has the shape of its first input too. What was there, by name.

    The optimiser takes ONNX's `Attention` for the operator of that name among its own, cannot tell its shape, and
    leaves out what it needs shapes for: sums with the group and layer norms behind them. It has nothing to do with
    `Clip`. One with a mask, a text encoder's, stays: `Clip` has three inputs, and the runtime fuses those norms by
    itself.
    """
    found: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        if node.op_type == "Attention" and not node.domain and len(node.input) == 3:
            found[node.name] = onnx.NodeProto()
            found[node.name].CopyFrom(node)
            node.op_type = "Clip"
            del node.attribute[:]
    return found


def _restore_attentions(model: onnx.ModelProto, attentions: Mapping[str, onnx.NodeProto]) -> None:
    """Undo `_disguise_attentions`, with the names that inputs and outputs have by now."""
    for node in model.graph.node:
        if node.op_type == "Clip" and node.name in attentions:
            node.op_type = "Attention"
            node.attribute.extend(attentions[node.name].attribute)


def _replace_unknown(model: onnx.ModelProto) -> None:
    """Replace what the optimiser left and the provider has no kernel for: a VAE's group norm of three dimensions."""
    completed = ir.serde.deserialize_model(model)
    if cuda_graph.replace_unknown(completed):
        model.CopyFrom(ir.serde.serialize_model(completed))


def build(root: Path, spec: ProgramSpec, folder: Path, device: str, progress: Progress) -> HostPlan:
    """The fastest of what is exported and what is optimised, in turn on `device`; without files if it is the first.

    `spec` is a program of the bundle at `root`; files are written into `folder`. BackendError where the exported
    program cannot run. What the optimiser cannot make, the provider cannot run, or lies too far from what is exported,
    is no candidate; `progress` is told why.
    """
    begun = time.monotonic()
    race = _Race(root, spec, BackendOptions(device, compiled=False))
    try:
        for name, changes in CANDIDATES.items() if _is_optimised(spec) else ():
            stage = f"compile {label(spec)} {name}"
            progress(stage, 0, 1)
            said = race.enter(folder / name, changes)
            progress(f"{stage}: {said}", 1, 1)
    finally:
        race.best.close()
    paths = _keep(race.chosen, folder)
    layers, precisions = summary(paths[0] if paths else root / spec.files[0].path)
    size = sum(path.stat().st_size for path in paths) or sum(file.size for file in spec.files)
    return HostPlan(paths, time.monotonic() - begun, size, layers, precisions)


def _is_optimised(spec: ProgramSpec) -> bool:
    """Whether the optimiser knows such a model; what it makes of bfloat16's constants is no longer valid."""
    return spec.name in MODEL_TYPES and spec.precision != "bf16"


class _Race:
    """The fastest program so far, which is what was exported (`chosen` None) or a candidate's folder."""

    def __init__(self, root: Path, spec: ProgramSpec, options: BackendOptions) -> None:
        self._root, self._spec, self._options = root, spec, options
        self._given = signatures.example(spec.inputs, 0)
        self._fused = [operators(root / spec.files[0].path)]
        (self.best,) = backends.load("onnxruntime", root, [spec], options)
        self.chosen: Path | None = None
        self._expected: Mapping[str, Array] | None = None

    def enter(self, folder: Path, changes: Mapping[str, bool]) -> str:
        """Make a candidate in `folder` and let it run beside the best; what came of it."""
        other: Program | None = None
        won = False
        try:
            made = optimise(self._root, self._spec, folder, **changes)
            fused = operators(folder / made.files[0].path)
            if fused in self._fused:
                return "nothing to fuse, or nothing else"
            self._fused.append(fused)
            (other,) = backends.load("onnxruntime", folder, [made], self._options)
            won, said = self._judge(other)
        except Exception as error:  # whatever a library raises is the reason
            said = f"{type(error).__name__}: {error}"
        if other is not None and won:
            self.best, other, self.chosen = other, self.best, folder
        if other is not None:
            other.close()
        return said

    def _judge(self, other: Program) -> tuple[bool, str]:
        """Whether `other` computes what was exported and is faster than the best, and how that was told."""
        if self._expected is None:
            self._expected = run(self.best, self._given)[0]
        found = run(other, self._given)[0]
        pairs = [found[name] for name in self._expected], [*self._expected.values()]
        far = gates.distance(*pairs).relative_l2
        bound = _BOUNDS.get(self._spec.precision, gates.FP32_BOUNDS[self._spec.name])
        if not far <= bound:
            return False, f"relative L2 {far:.1e} of what is exported, at most {bound:.1e} is let pass"
        seconds = in_turn((self.best, other), (self._given, self._given), _RUNS)
        wins = int((seconds[:, 1] < seconds[:, 0]).sum())
        before, after = 1e3 * np.median(seconds, axis=0)
        said = f"{after:.2f} ms, before {before:.2f}; faster in {wins} of {_RUNS} runs"
        return wins >= _WON, said


def operators(graph: Path) -> Counter[str]:
    """How many operators of a kind the graph has that ONNX itself does not know."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return Counter(node.op_type for node in nodes if node.domain)


def _keep(chosen: Path | None, folder: Path) -> tuple[Path, ...]:
    """The files of the candidate in the folder `chosen`, moved to `folder`, from which all candidates are removed."""
    kept = [path.rename(folder / path.name) for path in sorted(chosen.iterdir())] if chosen else []
    for name in CANDIDATES:
        shutil.rmtree(folder / name, ignore_errors=True)
    return tuple(kept)
