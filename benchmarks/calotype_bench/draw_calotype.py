"""Calotype, drawing for a worker."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from importlib import metadata

from calotype import Pipeline, backends
from calotype.backends._cuda import Device, Stopwatch
from calotype_bench import energy, laps
from calotype_bench.jobs import Drawn, Engine, Job
from calotype_bench.worker import Drawer, given, resident_bytes, save_drawn


def library(engine: Engine) -> None:
    """Import the library that runs programs; the choice of one is made where the bundle is opened."""
    if engine.backend in backends.installed():
        importlib.import_module(f"calotype.backends.{engine.backend}")


def load(engine: Engine) -> Drawer:
    """Load a bundle."""
    return _Drawer(engine)


class _Drawer:
    def __init__(self, engine: Engine) -> None:
        gpu = engine.gpu
        self._held = Held(partial(device_bytes_in_use, gpu) if gpu is not None else lambda: 0)
        with self._held.watching():
            self._pipeline = Pipeline.load(
                engine.path, engine.backend or "auto", device=engine.device, threads=engine.threads
            )
        self._energy = energy.Meter(gpu)
        events = stopwatch_cost(Device(gpu)) if gpu is not None else 0.0
        self._lap_seconds = laps.cost() + events  # as the pipeline and its programs time what they run
        self.backend = self._pipeline.backend
        libraries = ("calotype", "numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings")
        self.versions = {name: version for name in libraries if (version := _version(name))}

    def draw(self, job: Job, save: str = "") -> Drawn:
        pictures = given(job)
        with self._held.watching(), self._energy.measuring():
            begun = time.perf_counter()
            result = self._pipeline(
                job.prompt, num_inference_steps=job.steps, seed=job.seed, scheduler=job.scheduler,
                guidance_scale=job.guidance_scale, num_images_per_prompt=job.batch, output_type="np", **pictures,
            )  # fmt: skip
            seconds = time.perf_counter() - begun
        if save:
            save_drawn(save, result.images, result.latents)
        parts = {name: value for name, value in result.timings.items() if name != "total"}
        # of programs, at most: the UNet, decoder and checker of each picture, two texts, and two that look at pictures
        runs = job.batch * (result.evaluations + 2) + 4
        measuring = runs * self._lap_seconds
        return Drawn(
            seconds, parts, result.device_timings, result.evaluations, resident_bytes(), self._held.bytes,
            self._energy.joules, measuring, clock_mhz=self._energy.clock_mhz(),
        )  # fmt: skip


def stopwatch_cost(device: Device) -> float:
    """Seconds that it takes a program to time one run by the GPU's clock, found by timing runs of nothing."""
    stopwatch = Stopwatch(device)

    def nothing() -> None:
        with stopwatch.running():
            pass

    laps.a_call(nothing, stopwatch.seconds)  # makes the events, which are used again
    return laps.a_call(nothing, stopwatch.seconds)


def _version(name: str) -> str:
    if name == "onnxruntime" and name in sys.modules:  # one module, of several packages
        return str(sys.modules[name].__version__)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


class Held:
    """What this process took of a device while it was watched, in bytes.

    A device tells what all processes together hold, and engines work in turn: what is added while one of them works
    is its own. A CUDA context, which is there before anything is loaded, is not counted, nor is it by torch.
    """

    def __init__(self, in_use: Callable[[], int]) -> None:
        self.bytes = 0
        self._in_use = in_use
        in_use()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Add what is taken inside."""
        before = self._in_use()
        yield
        self.bytes += self._in_use() - before


def device_bytes_in_use(index: int) -> int:
    """What all processes together hold of this GPU; 0 where it cannot be asked."""
    runtime = importlib.import_module("cuda.bindings.runtime")
    runtime.cudaSetDevice(index)  # which is the one that is asked, and the one that the pipeline is to use
    status, free, total = runtime.cudaMemGetInfo()
    return int(total - free) if int(status) == 0 else 0
