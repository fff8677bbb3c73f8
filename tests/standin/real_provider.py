"""ONNX Runtime's CUDA provider itself, over the stand-in's libraries: what it opens, and what it calls when it runs.

It computes nothing. It runs in processes of its own, since the linker has to find the libraries; `call` starts one and
gives back what the function of that name in this module has found there.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from calotype import Pipeline, backends
from calotype.backends import BackendOptions, _recording, onnxruntime
from calotype.backends._plans import Chosen
from calotype.bundle import Bundle
from calotype.compiled import SETTINGS
from calotype.errors import BackendError
from tests.bundles import ROOT
from tests.standin import gpu

PACKAGE = ROOT / ".cache" / "onnxruntime-gpu"  # `make test` installs it
PROVIDER = PACKAGE / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
_RUNS = 3
_MEMORY = 2**36


def call(libraries: Path, function: str, *arguments: str) -> Any:
    """What `function` finds in a process with the libraries of that folder; RuntimeError with what it said."""
    paths = (PACKAGE, ROOT / "engine", ROOT / "export", ROOT)
    here = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-m", "tests.standin.real_provider", function, *arguments]
    done = subprocess.run(command, check=False, env=here, cwd=ROOT, capture_output=True, text=True)
    if done.returncode or "[cudnn_frontend] Error" in done.stderr:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class _Calls:
    """What the libraries take down."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcudart.so.13")
        self._library.calls_count.restype = ctypes.c_long
        self._library.call_name.restype = ctypes.c_char_p
        self._library.call_name.argtypes = (ctypes.c_long,)

    def of(self, work: Callable[[], object]) -> dict[str, int]:
        """What `work` calls, how many times."""
        self._library.calls_forget()
        work()
        return dict(
            Counter(self._library.call_name(number).decode() for number in range(self._library.calls_count()))
        )

    def recorded(self) -> dict[str, int]:
        """The mode of the last recording, and how much of the host's memory had changed when a copy was replayed."""
        return {"mode": self._library.recorded_mode(), "changed": self._library.recorded_changed()}


@contextmanager
def _a_gpu() -> Generator[_Calls]:
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as state:
        gpu.install(patched, Path(state), _MEMORY)
        yield _Calls()


def programs(root: str, graphs: str = "graphs") -> list[dict[str, Any]]:
    """What the first and the last of some runs of each program call; all of a bundle are open together."""
    with _a_gpu() as calls:
        specs = Bundle.open(root).manifest.programs
        options = BackendOptions("cuda", graphs=graphs == "graphs")
        loaded = backends.load("onnxruntime", Path(root), specs, options)
        for program in loaded:
            program.bind(
                {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in program.spec.inputs}
            )
        taken = [[calls.of(lambda one=program: one.run({})) for program in loaded] for _ in range(_RUNS)]
        return [
            {
                "spec": [spec.name, spec.batch, spec.precision],
                "first": first,
                "last": last,
                **calls.recorded(),
            }
            for spec, first, last in zip(specs, taken[0], taken[-1], strict=True)
        ]


def threads(root: str, name: str) -> list[list[int]]:
    """Of a program's runs, two in each of two threads: how often each records, and how often it does so alone."""
    alone = _recording.alone
    entered = list[int]()

    @contextmanager
    def counted() -> Generator[None]:
        entered.append(1)
        with alone():
            yield

    with _a_gpu() as calls, pytest.MonkeyPatch.context() as patched:
        patched.setattr(_recording, "alone", counted)
        specs = [spec for spec in Bundle.open(root).manifest.programs if spec.name == name][:1]
        (program,) = backends.load("onnxruntime", Path(root), specs, BackendOptions("cuda"))
        program.bind({tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in program.spec.inputs})
        found = list[list[int]]()

        def runs() -> None:
            for _ in range(2):
                entered.clear()
                made = calls.of(lambda: program.run({})).get("cudaStreamBeginCapture", 0)
                found.append([made, len(entered)])

        runs()
        other = threading.Thread(target=runs)
        other.start()
        other.join()
        return found


def launches(root: str, folder: str) -> list[dict[str, Any]]:
    """What one run of each program calls without a graph, by candidate: as exported, and what the optimiser makes.

    Each with every setting of the provider's that plans may switch on, one added to the other.
    """
    from calotype_export.fused_plans import GRAPHS
    from calotype_export.ort_optimiser import MODEL_TYPES, optimise

    found = list[dict[str, Any]]()
    options = BackendOptions("cuda", graphs=False)
    with _a_gpu() as calls:
        for spec in Bundle.open(root).manifest.programs:
            graphs = {"exported": Chosen(Path(root), (), {})}
            for name, changes in GRAPHS.items() if spec.name in MODEL_TYPES else ():
                made = Path(folder) / f"{spec.name}_{spec.batch}_{name}"
                graphs[name] = Chosen(made, optimise(Path(root), spec, made, changes).files, {})
            for (name, graph), count in product(graphs.items(), range(len(SETTINGS) + 1)):
                settings = dict.fromkeys(SETTINGS[:count], "1")
                chosen = [replace(graph, settings=settings)]
                (program,) = onnxruntime.load_chosen(Path(root), [spec], options, chosen)
                program.bind({tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in spec.inputs})
                called = [calls.of(lambda one=program: one.run({})) for _ in range(_RUNS)][-1]
                program.close()
                who = {"program": spec.name, "batch": spec.batch, "precision": spec.precision}
                found.append({**who, "graph": name, "settings": [*settings], "calls": called})
            for graph in graphs.values():
                if graph.files:
                    shutil.rmtree(graph.folder)  # gigabytes at full size
    return found


def pictures(root: str, lora: str, steps: str) -> list[dict[str, int]]:
    """What drawing calls: the first picture, the second, the second with a LoRA, and the second without it again."""
    with _a_gpu() as calls:
        pipeline = Pipeline.load(root, "onnxruntime", device="cuda")

        def draw() -> None:
            with pytest.raises(BackendError, match="black in every pixel"):  # since nothing is computed
                pipeline("a red circle", num_inference_steps=int(steps), seed=1)

        taken = [calls.of(draw), calls.of(draw)]
        for loras in ([(lora, 1.0)], []):
            pipeline.set_lora(loras)
            draw()
            taken.append(calls.of(draw))
        return taken


def compiled(root: str) -> list[str]:
    """What `calotype-export compile --backend onnxruntime --device cuda` tells."""
    from calotype_export.compile import compile_bundle
    from calotype_export.tensorrt_builder import BuilderOptions

    told: list[str] = []
    with _a_gpu():
        compile_bundle(Path(root), "onnxruntime", BuilderOptions(gpu=0), lambda stage, *_: told.append(stage))
    return told


def refused(*graphs: str) -> list[list[str]]:
    """The nodes of each graph that the provider has no kernel for."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 1  # it says which they are
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # padding stays by itself
    found = list[list[str]]()
    for path in graphs:
        with _said() as text:
            ort.InferenceSession(path, options, providers=["CUDAExecutionProvider"])
        nodes = re.findall(r"kernel not found in registries for Op type: \w+ node name: (\S+)", text[0])
        found.append(sorted(set(nodes)))
    return found


@contextmanager
def _said() -> Generator[list[str]]:
    """What this process, its libraries included, says on its standard error."""
    text: list[str] = []
    real = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            os.dup2(real, 2)
            os.close(real)
            file.seek(0)
            text.append(file.read().decode("utf-8", "replace"))


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function for function in (programs, threads, launches, pictures, compiled, refused)
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(_FUNCTIONS[sys.argv[1]](*sys.argv[2:])) + "\n")
