"""How ONNX Runtime's CUDA provider runs a program fastest on this machine's GPU: found by trying.

As it was exported, or as ONNX Runtime's own transformer optimiser makes it; and with which settings of the provider.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from calotype.backends import Array, BackendOptions, Program, onnxruntime
from calotype.backends._contract import label
from calotype.backends._plans import Chosen
from calotype.compiled import SETTINGS
from calotype.manifest import ProgramSpec
from calotype_export import gates, signatures
from calotype_export.host_plans import HostPlan, summary
from calotype_export.ort_optimiser import MODEL_TYPES, operators, optimise
from calotype_export.progress import Progress
from calotype_export.timed_run import in_turn, run

# What of the optimiser is left out, by the name of the folder that a candidate is written to.
GRAPHS: Final[Mapping[str, Mapping[str, bool]]] = {
    "fused": {},
    "fused_but_convolutions": {"enable_nhwc_conv": False},
}
_RUNS = 20
_WON = 15  # of 20 runs in turn; by chance once in 50
_ROUNDINGS = 16
# What the manifest of such plans says of how they were chosen.
RULES: Final[Mapping[str, object]] = {
    "candidates": [*GRAPHS, *SETTINGS],
    "runs": _RUNS,
    "won": _WON,
    "roundings": _ROUNDINGS,
}
# Relative L2 of what is exported so.
_BOUNDS = {"fp16": _ROUNDINGS * 2.0**-11, "bf16": _ROUNDINGS * 2.0**-8}


@dataclass(frozen=True, slots=True)
class Fastest:
    """The plan of a program, and the settings of the provider that it runs with."""

    plan: HostPlan
    settings: Mapping[str, str]


def build(root: Path, spec: ProgramSpec, folder: Path, device: str, progress: Progress) -> Fastest:
    """The fastest of what is exported, without files, and what can be made of it, in turn on `device`.

    `spec` is a program of the bundle at `root`; files are written into `folder`. BackendError where the exported
    program cannot run. What the optimiser cannot make, the provider cannot run, or lies too far from what is exported,
    is no candidate; `progress` is told why.
    """
    begun = time.monotonic()
    race = _Race(root, spec, BackendOptions(device, compiled=False))
    try:
        for name, candidate in race.candidates(folder):
            stage = f"compile {label(spec)} {name}"
            progress(stage, 0, 1)
            said = race.enter(candidate)
            progress(f"{stage}: {said}", 1, 1)
    finally:
        race.best.close()
    paths = _keep(race.chosen.folder if race.chosen.files else None, folder)
    layers, precisions = summary(paths[0] if paths else root / (spec.cuda_files or spec.files)[0].path)
    size = sum(path.stat().st_size for path in paths) or sum(file.size for file in spec.files)
    return Fastest(HostPlan(paths, time.monotonic() - begun, size, layers, precisions), race.chosen.settings)


class _NoCandidateError(Exception):
    """There is nothing to try."""


class _Race:
    """The fastest program so far, `best`, and what it is opened from, `chosen`."""

    def __init__(self, root: Path, spec: ProgramSpec, options: BackendOptions) -> None:
        self._root, self._spec, self._options = root, spec, options
        self._given = signatures.example(spec.inputs, 0)
        graph = root / (spec.cuda_files or spec.files)[0].path
        self._fused = [operators(graph)]
        self._convolves = any(
            node.op_type == "Conv" for node in onnx.load(graph, load_external_data=False).graph.node
        )
        (self.best,) = onnxruntime.load(root, [spec], options)
        self.chosen = Chosen(root, (), {})
        self._expected: Mapping[str, Array] | None = None

    def candidates(self, folder: Path) -> list[tuple[str, Callable[[], Chosen]]]:
        """What to try by name: graphs, then each setting of the provider's on what was fastest before.

        Graphs are written into `folder` when they are made.
        """
        # of bfloat16's constants the optimiser makes invalid ones, and it has no convolutions in NHWC
        known = self._spec.name in MODEL_TYPES and self._spec.precision != "bf16"
        graphs = [
            (name, lambda made=folder / name, changes=changes: self._optimised(made, changes))
            for name, changes in (GRAPHS.items() if known else ())
        ]
        settings = [
            (name, lambda name=name: replace(self.chosen, settings={**self.chosen.settings, name: "1"}))
            for name in (SETTINGS if self._convolves and self._spec.precision != "bf16" else ())
        ]
        return [*graphs, *settings]

    def _optimised(self, folder: Path, changes: Mapping[str, bool]) -> Chosen:
        made = optimise(self._root, self._spec, folder, changes)
        fused = operators(folder / made.files[0].path)
        if fused in self._fused:
            raise _NoCandidateError("nothing to fuse, or nothing else")
        self._fused.append(fused)
        return Chosen(folder, made.files, {})

    def enter(self, make: Callable[[], Chosen]) -> str:
        """Make a candidate and let it run beside the best; what came of it."""
        other: Program | None = None
        won = False
        try:
            candidate = make()
            (other,) = onnxruntime.load_chosen(self._root, [self._spec], self._options, [candidate])
            won, said = self._judge(other)
            if won:
                self.best, other, self.chosen = other, self.best, candidate
        except _NoCandidateError as error:
            said = str(error)
        except Exception as error:  # whatever a library raises is the reason
            said = f"{type(error).__name__}: {error}"
        if other is not None:
            other.close()
        return said

    def _judge(self, other: Program) -> tuple[bool, str]:
        """Whether `other` computes what was exported and is faster than the best, and how that was told."""
        if self._expected is None:
            self._expected = run(self.best, self._given)[0]
        bound = _BOUNDS.get(self._spec.precision, gates.FP32_BOUNDS[self._spec.name])
        far = self._distance(other)
        seconds = (
            in_turn((self.best, other), (self._given, self._given), _RUNS)
            if far <= bound
            else np.zeros((1, 2))
        )
        far = max(far, self._distance(other))  # a first run may be right where others are not
        if not far <= bound:
            return False, f"relative L2 {far:.1e} of what is exported, at most {bound:.1e} is let pass"
        wins = int((seconds[:, 1] < seconds[:, 0]).sum())
        before, after = 1e3 * np.median(seconds, axis=0)
        said = f"{after:.2f} ms, before {before:.2f}; faster in {wins} of {_RUNS} runs"
        return wins >= _WON, said

    def _distance(self, other: Program) -> float:
        """Relative L2 of a run of `other` from what is exported."""
        expected, found = self._expected or {}, run(other, self._given)[0]
        return gates.distance([found[name] for name in expected], [*expected.values()]).relative_l2


def _keep(chosen: Path | None, folder: Path) -> tuple[Path, ...]:
    """The files of the candidate in the folder `chosen`, moved to `folder`, from which all candidates are removed."""
    kept = [path.rename(folder / path.name) for path in sorted(chosen.iterdir())] if chosen else []
    for name in GRAPHS:
        shutil.rmtree(folder / name, ignore_errors=True)
    return tuple(kept)
