"""stable-diffusion.cpp through its Python binding, drawing for a worker in an environment of its own."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np

from calotype_bench import energy
from calotype_bench.jobs import Drawn, Engine, Job
from calotype_bench.worker import Drawer, cores, given, resident_bytes, save_drawn

PACKAGE = "stable-diffusion-cpp-python"
WEIGHTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_NAMES = {"image": "init_image"}  # of diffusers' arguments, its own
METHODS = {"ddim": "ddim_trailing", "euler": "euler"}


def library(_: Engine) -> Any:
    """The binding."""
    return importlib.import_module("stable_diffusion_cpp")


def load(engine: Engine) -> Drawer:
    """Load a checkpoint's folder."""
    if engine.device != "cpu":
        raise ValueError(f"its package computes on the cpu alone, found device {engine.device}")
    return _Drawer(engine)


class _Drawer:
    def __init__(self, engine: Engine) -> None:
        threads = engine.threads or cores()  # by itself it took one of two cores
        self._model = library(engine).StableDiffusion(
            model_path=engine.path, wtype=WEIGHTS[engine.dtype], n_threads=threads, verbose=False,
            rng_type="cpu", sampler_rng_type="cpu",  # torch's numbers, not those that it has on a GPU
        )  # fmt: skip
        self._energy = energy.Meter()
        self.backend = "ggml"
        self.versions = {PACKAGE: metadata.version(PACKAGE), "kernels for": _kernels()}

    def draw(self, job: Job, save: str = "") -> Drawn:
        if job.scheduler not in METHODS:
            raise ValueError(f"it has no sampling method that is {job.scheduler}")
        pictures = {_NAMES.get(name, name): each for name, each in given(job).items()}
        with self._energy.measuring(), _explained():
            begun = time.perf_counter()
            found = self._model.generate_image(
                prompt=job.prompt, sample_steps=job.steps, seed=job.seed, cfg_scale=job.guidance_scale,
                width=job.width, height=job.height, batch_count=job.batch, sample_method=METHODS[job.scheduler],
                **pictures,
            )  # fmt: skip
            drawn = np.stack([np.asarray(picture.convert("RGB"), np.float32) / 255 for picture in found])
            seconds = time.perf_counter() - begun
        if save:
            save_drawn(save, drawn)
        # it tells none; from a picture its source takes one step more than diffusers
        evaluations = min(job.steps, int(job.steps * job.strength) + 1) if job.image else job.steps
        return Drawn(seconds, {}, {}, evaluations, resident_bytes(), 0, self._energy.joules, 0.0)


def _kernels() -> str:
    """What its library was built for, of what it tells as `AVX2 = 1 | NEON = 0`."""
    library: Any = importlib.import_module("stable_diffusion_cpp.stable_diffusion_cpp")
    told = library.sd_get_system_info().decode()
    return " ".join(re.findall(r"(\w+) = 1", told))


@contextmanager
def _explained() -> Generator[None]:
    """A model that it could not load is an empty picture to the binding."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"it gave no picture ({error}): it reads models of the published widths alone"
        ) from error
