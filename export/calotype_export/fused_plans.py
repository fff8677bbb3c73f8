"""What ONNX Runtime's own transformer optimiser makes of a program, kept where it is faster on this machine's GPU.

The optimiser comes with ONNX Runtime (`onnxruntime.transformers`). It puts operators of the CUDA provider in place of
groups of nodes: group norm with SiLU, convolutions in NHWC, gated GELU with its bias, skip layer norm.
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

from calotype import backends
from calotype.backends import Array, BackendOptions, Program
from calotype.backends._contract import label
from calotype.manifest import ProgramSpec
from calotype_export import bundle_files, gates, signatures
from calotype_export.host_plans import HostPlan, summary
from calotype_export.progress import Progress
from calotype_export.timed_run import WARM_UPS, Given, run

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
_BOUNDS = {"fp16": _ROUNDINGS * 2.0**-11, "bf16": _ROUNDINGS * 2.0**-8}  # relative L2 of what is exported so


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
    folder.mkdir()
    path = folder / f"{spec.name}_{spec.batch}.onnx"
    model.save_model_to_file(str(path), use_external_data_format=True)
    files = tuple(bundle_files.describe(one, folder) for one in sorted(folder.iterdir()))
    return dataclasses.replace(spec, files=files, parameters=())


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


def build(root: Path, spec: ProgramSpec, folder: Path, device: str, progress: Progress) -> HostPlan:
    """The fastest of what is exported and what is optimised, in turn on `device`; without files if it is the first.

    `spec` is a program of the bundle at `root`; files are written into `folder`. BackendError where the exported
    program cannot run. What the optimiser cannot make, the provider cannot run, or lies too far from what is exported,
    is no candidate; `progress` is told why.
    """
    begun = time.monotonic()
    options = BackendOptions(device, compiled=False)
    given = signatures.example(spec.inputs, 0)
    (best,) = backends.load("onnxruntime", root, [spec], options)
    expected, chosen = run(best, given)[0], None
    for name, changes in CANDIDATES.items() if spec.name in MODEL_TYPES else ():
        stage, made = f"compile {label(spec)} {name}", folder / name
        try:
            fused = optimise(root, spec, made, **changes)
            if not operators(made / fused.files[0].path) - operators(root / spec.files[0].path):
                progress(f"{stage}: nothing to fuse", 1, 1)
                continue
            (other,) = backends.load("onnxruntime", made, [fused], options)
            won, said = _judge(best, other, given, expected)
        except Exception as error:  # whatever a library raises is the reason
            progress(f"{stage}: {type(error).__name__}: {error}", 1, 1)
            continue
        progress(f"{stage}: {said}", 1, 1)
        loser, best = (best, other) if won else (other, best)
        loser.close()
        chosen = made if won else chosen
    best.close()
    paths = _keep(chosen, folder)
    layers, precisions = summary(paths[0] if paths else root / spec.files[0].path)
    size = sum(path.stat().st_size for path in paths) or sum(file.size for file in spec.files)
    return HostPlan(paths, time.monotonic() - begun, size, layers, precisions)


def operators(graph: Path) -> Counter[str]:
    """How many operators of a kind the graph has that ONNX itself does not know."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return Counter(node.op_type for node in nodes if node.domain)


def _judge(best: Program, other: Program, given: Given, expected: Mapping[str, Array]) -> tuple[bool, str]:
    """Whether `other` computes what is `expected` and is faster than `best`, and how that was told."""
    spec = best.spec
    found = run(other, given)[0]
    far = gates.distance([found[name] for name in expected], [*expected.values()]).relative_l2
    bound = _BOUNDS.get(spec.precision, gates.FP32_BOUNDS[spec.name])
    if not far <= bound:
        return False, f"relative L2 {far:.1e} of what is exported, at most {bound:.1e} is let pass"
    for program in (best, other) * WARM_UPS:
        run(program, given)
    pairs = np.array([(run(best, given)[1], run(other, given)[1]) for _ in range(_RUNS)])
    wins = int((pairs[:, 1] < pairs[:, 0]).sum())
    before, after = np.median(pairs, axis=0)
    return wins >= _WON, f"{after * 1e3:.2f} ms, before {before * 1e3:.2f}; faster in {wins} of {_RUNS} runs"


def _keep(chosen: Path | None, folder: Path) -> tuple[Path, ...]:
    """The files of the candidate in the folder `chosen`, moved to `folder`, from which all candidates are removed."""
    kept = [path.rename(folder / path.name) for path in sorted(chosen.iterdir())] if chosen else []
    for name in CANDIDATES:
        shutil.rmtree(folder / name, ignore_errors=True)
    return tuple(kept)
