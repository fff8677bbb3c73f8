"""Eager diffusers, and diffusers under torch.compile, drawing for a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import diffusers
import numpy as np
import torch

from calotype_bench.jobs import Drawn, Engine, Job
from calotype_bench.worker import Drawer, resident_bytes

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SCHEDULERS = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "pndm": "PNDMScheduler"}


def load(engine: Engine) -> Drawer:
    """Load a checkpoint as a text-to-image pipeline, with its safety checker, convolutions in channels-last order."""
    return _Drawer(engine)


class _Drawer:
    def __init__(self, engine: Engine) -> None:
        if engine.threads is not None:
            torch.set_num_threads(engine.threads)
        pipeline: Any = diffusers.StableDiffusionPipeline.from_pretrained(
            engine.path, torch_dtype=DTYPES[engine.dtype]
        )
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(engine.device)
        for module in (self._pipeline.unet, self._pipeline.vae):
            module.to(memory_format=torch.channels_last)
        if engine.name == "compile":
            self._pipeline.unet = torch.compile(self._pipeline.unet, mode="max-autotune", fullgraph=True)
            self._pipeline.vae.decode = torch.compile(
                self._pipeline.vae.decode, mode="max-autotune", fullgraph=True
            )
        self._config = dict(self._pipeline.scheduler.config)
        self._on_gpu = engine.device != "cpu"
        self.backend = "torch"
        self.versions = {name: metadata.version(name) for name in ("torch", "diffusers", "transformers")}

    def draw(self, job: Job, save: str = "") -> Drawn:
        parts: dict[str, float] = {}
        self._pipeline.scheduler = getattr(diffusers, SCHEDULERS[job.scheduler]).from_config(self._config)
        begun = time.perf_counter()
        with self._timed(parts):
            self._run(job, "np")
        seconds = time.perf_counter() - begun
        parts["runtime"] = seconds - sum(parts.values())
        if save:
            np.save(save, self._run(job, "latent").float().cpu().numpy())
        evaluations = len(self._pipeline.scheduler.timesteps)
        device = torch.cuda.max_memory_allocated() if self._on_gpu else 0
        return Drawn(seconds, parts, evaluations, resident_bytes(), device, save)

    def _run(self, job: Job, output: str) -> Any:
        with torch.inference_mode():
            return self._pipeline(
                job.prompt, num_inference_steps=job.steps, guidance_scale=job.guidance_scale,
                num_images_per_prompt=job.batch, output_type=output,
                generator=torch.Generator().manual_seed(job.seed),
            ).images  # fmt: skip

    @contextmanager
    def _timed(self, parts: dict[str, float]) -> Generator[None]:
        """On a CPU the parts are timed as they are called; on a GPU that would hold it up, so only the whole is."""
        if self._on_gpu:
            yield
            torch.cuda.synchronize()
            return
        pipeline = self._pipeline
        places = [
            (pipeline.text_encoder, "forward", "text_encoder"),
            (pipeline.unet, "forward", "unet_step"),
            (pipeline.vae, "decode", "vae_decoder"),
        ]
        if pipeline.safety_checker is not None:
            places.append((pipeline.safety_checker, "forward", "safety_checker"))
        kept = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        for owner, name, part in places:
            setattr(owner, name, _clocked(getattr(owner, name), part, parts))
        try:
            yield
        finally:
            for owner, name, function in kept:
                setattr(owner, name, function)


def _clocked(function: Callable[..., Any], part: str, parts: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **settings: Any) -> Any:
        begun = time.perf_counter()
        result = function(*arguments, **settings)
        parts[part] = parts.get(part, 0.0) + time.perf_counter() - begun
        return result

    return call
