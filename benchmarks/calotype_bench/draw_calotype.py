"""Calotype, drawing for a worker."""

from __future__ import annotations

import importlib
import time
from importlib import metadata

import numpy as np

from calotype import Pipeline
from calotype_bench.jobs import Drawn, Engine, Job
from calotype_bench.worker import Drawer, resident_bytes


def load(engine: Engine) -> Drawer:
    """Load a bundle."""
    return _Drawer(engine)


class _Drawer:
    def __init__(self, engine: Engine) -> None:
        self._pipeline = Pipeline.load(
            engine.path, engine.backend, device=engine.device, threads=engine.threads
        )
        self._on_gpu = engine.device != "cpu"
        self.backend = self._pipeline.backend
        self.versions = {"calotype": metadata.version("calotype"), "numpy": np.__version__}

    def draw(self, job: Job, save: str = "") -> Drawn:
        arguments = {
            "num_inference_steps": job.steps, "seed": job.seed, "scheduler": job.scheduler,
            "guidance_scale": job.guidance_scale, "num_images_per_prompt": job.batch,
        }  # fmt: skip
        begun = time.perf_counter()
        result = self._pipeline(job.prompt, **arguments, output_type="np")
        seconds = time.perf_counter() - begun
        if save:
            np.save(save, self._pipeline(job.prompt, **arguments, output_type="latent").images)
        parts = {name: value for name, value in result.timings.items() if name != "total"}
        device = _device_bytes() if self._on_gpu else 0
        return Drawn(seconds, parts, result.evaluations, resident_bytes(), device, save)


def _device_bytes() -> int:
    """What all processes together hold of the GPU: CUDA tells no more."""
    runtime = importlib.import_module("cuda.bindings.runtime")
    _, free, total = runtime.cudaMemGetInfo()
    return int(total - free)
