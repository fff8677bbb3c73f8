"""Any pipeline with diffusers' interface, drawing for a worker."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np

from calotype_bench import energy, laps
from calotype_bench.jobs import Drawn, Job
from calotype_bench.laps import Laps, Place
from calotype_bench.worker import resident_bytes, save_drawn

SCHEDULERS = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "pndm": "PNDMScheduler"}


def limit_threads(threads: int) -> None:
    """Of torch: whatever a pipeline does in it, if only its scheduler and its safety checker."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)


class DiffusersDrawer:
    """`packages` are those whose versions matter; `prepare` is called before each job.

    `noise` gives a job's own, or None for what the pipeline draws of the job's seed.
    """

    def __init__(
        self,
        pipeline: Any,
        packages: Sequence[str],
        on_gpu: bool = False,
        prepare: Callable[[Job], None] = lambda _: None,
        noise: Callable[[Job], Any] = lambda _: None,
    ) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self._torch: Any = importlib.import_module("torch")
        self._diffusers: Any = importlib.import_module("diffusers")
        self._pipeline = pipeline
        self._places = _places(pipeline)
        self._config = dict(pipeline.scheduler.config)
        self._on_gpu = on_gpu
        self._prepare = prepare
        self._noise = noise
        self._energy = energy.Meter()
        self._lap_seconds = laps.cost(on_gpu)
        self.backend = packages[0]
        self.versions = {name: metadata.version(name) for name in packages}

    def draw(self, job: Job, save: str = "") -> Drawn:
        """See `Drawer.draw`."""
        clock = Laps(self._on_gpu)
        kind = getattr(self._diffusers, SCHEDULERS[job.scheduler])
        self._pipeline.scheduler = kind.from_config(self._config)
        with self._energy.measuring(), laps.timed(self._places, clock), self._decoded() as latents:
            begun = time.perf_counter()
            self._prepare(job)
            pictures = self._run(job)
            if self._on_gpu:
                self._torch.cuda.synchronize()
            seconds = time.perf_counter() - begun
        parts = clock.wall()
        if save:
            scale = self._pipeline.vae.config.scaling_factor
            save_drawn(
                save, pictures, np.concatenate([(each * scale).float().cpu().numpy() for each in latents])
            )
        if parts:
            parts["runtime"] = seconds - sum(parts.values())
        evaluations = len(self._pipeline.scheduler.timesteps)
        device = self._torch.cuda.max_memory_allocated() if self._on_gpu else 0
        return Drawn(
            seconds, parts, clock.device(), evaluations, resident_bytes(), device,
            self._energy.joules, clock.count * self._lap_seconds, clock_mhz=self._energy.clock_mhz(),
        )  # fmt: skip

    def _run(self, job: Job) -> Any:
        with self._torch.inference_mode():
            return self._pipeline(
                job.prompt, num_inference_steps=job.steps, guidance_scale=job.guidance_scale,
                num_images_per_prompt=job.batch, output_type="np", height=job.height, width=job.width,
                generator=self._torch.Generator().manual_seed(job.seed), latents=self._noise(job),
            ).images  # fmt: skip

    @contextmanager
    def _decoded(self) -> Generator[list[Any]]:
        """The latents that the VAE is given meanwhile: those that the scheduler left, over the scaling factor."""
        kept: list[Any] = []
        vae = self._pipeline.vae
        decode = vae.decode

        def keep(latents: Any, *arguments: Any, **settings: Any) -> Any:
            kept.append(latents)
            return decode(latents, *arguments, **settings)

        vae.decode = keep
        try:
            yield kept
        finally:
            vae.decode = decode


def _places(pipeline: Any) -> list[Place]:
    """The programs, and the safety checker of a pipeline that has one."""
    checker = getattr(pipeline, "safety_checker", None)
    return [
        (pipeline.text_encoder, "forward", "text_encoder"),
        (pipeline.unet, "forward", "unet_step"),
        (pipeline.vae, "decode", "vae_decoder"),
        *([] if checker is None else [(checker, "forward", "safety_checker")]),
    ]
