"""The backends that the contract is held against, and what its tests feed to a step program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import Pipeline, backends
from calotype.backends import Array, BackendOptions, Program
from calotype.features import time_features
from calotype.manifest import ProgramSpec, TimeEmbedding
from tests import fakes
from tests.backends import step_programs
from tests.backends.step_programs import F, S
from tests.engine.tiny import PROMPT
from tests.standin import gpu

Make = Callable[..., Program]
Case = tuple[str, str]  # backend, precision
ON_HOST: list[Case] = [
    *((name, "fp32") for name in backends.names() if name not in backends.COMPILED_ONLY),
    ("onnxruntime", "fp16"),
    ("openvino", "bf16"),
]
ON_GPU: list[Case] = [*((name, "fp32") for name in backends.COMPILED_ONLY), ("tensorrt", "fp16")]


def available(case: Case) -> Case:
    if case[0] != "fake" and case[0] not in backends.installed():
        pytest.skip(f"{case[0]} is not installed")
    return case


def load_spec(name: str, root: Path, spec: ProgramSpec) -> Program:
    if name == "fake":
        return fakes.program(spec, fake_step)
    if name in gpu.MODULES:
        gpu.compile_for(name, root, (spec,))
        return backends.load(name, root, [spec], BackendOptions("cuda"))[0]
    (program,) = backends.load(name, root, [spec], BackendOptions(threads=1))
    return program


def fake_step(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The frame of the step around a prediction that one line can make."""
    state, read, write = (inputs[name] for name in ("state", "read", "write"))
    sample = (state * read[:, :, None, None, None]).sum(1)
    prediction = np.tanh(sample + inputs["time_features"][:, :1, None, None])
    slots = np.concatenate([state, prediction[:, None], inputs["noise"][:, None]], axis=1)
    return {
        "next_state": (slots[:, None] * write[..., None, None, None]).sum(2),
        "prediction": prediction,
    }


def features(*timesteps: float) -> Array:
    embedding = TimeEmbedding(F, flip_sin_to_cos=True, freq_shift=0)
    return np.stack([time_features(timestep, embedding) for timestep in timesteps])


def step_inputs(seed: int = 0, batch: int = 2) -> dict[str, Array]:
    """Random numbers for every input; `write` mixes all slots, the prediction and the noise."""
    generator = np.random.default_rng(seed)
    inputs = {
        tensor.name: generator.standard_normal(tensor.shape).astype(np.float32)
        for tensor in step_programs.inputs(batch)
    }
    return inputs | {"time_features": features(*[999.0] * batch)}


def identity(batch: int = 2) -> Array:
    """The row that writes every slot back into itself."""
    return np.repeat(np.eye(S, S + 2, dtype=np.float32)[None], batch, axis=0)


def snapshot(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value.copy() for name, value in outputs.items()}


def whole(program: Program, name: str) -> Array:
    return np.stack([program.get(name, row) for row in range(program.spec.batch)])


def draw(pipeline: Pipeline, **changes: Any) -> Array:
    request: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 4, "seed": 5, "output_type": "np"}
    return pipeline(**request | changes).images


def in_two_threads(draw_one: Callable[[int], Array], times: int) -> dict[int, list[Array]]:
    """What `draw_one(0)` and `draw_one(1)` give, `times` each, in two threads that run side by side."""
    found: dict[int, list[Array]] = {0: [], 1: []}

    def work(index: int) -> None:
        found[index].extend(draw_one(index) for _ in range(times))

    threads = [threading.Thread(target=work, args=(index,)) for index in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
