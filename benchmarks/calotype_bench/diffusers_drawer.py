"""Any pipeline with diffusers' interface, drawing for a worker."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from calotype_bench import energy, laps
from calotype_bench.jobs import DEPTH_TO_IMAGE, IMAGE_TO_IMAGE, INPAINTING, TEXT_TO_IMAGE, Drawn, Engine, Job
from calotype_bench.laps import Laps, Place
from calotype_bench.worker import given, resident_bytes, save_drawn

# By task; optimum's have a prefix.
PIPELINES = {
    TEXT_TO_IMAGE: "StableDiffusionPipeline",
    IMAGE_TO_IMAGE: "StableDiffusionImg2ImgPipeline",
    INPAINTING: "StableDiffusionInpaintPipeline",
    DEPTH_TO_IMAGE: "StableDiffusionDepth2ImgPipeline",
}
SCHEDULERS = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "pndm": "PNDMScheduler"}


def limit_threads(threads: int) -> None:
    """Of torch: whatever a pipeline does in it, if only its scheduler and its safety checker."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)


def pipeline_class(package: str, prefix: str, name: str) -> Any:
    """A package's own of a pipeline of diffusers, whose modules it imports when they are first asked for."""
    return getattr(importlib.import_module(package), f"{prefix}{name}")


def made_for(checkpoint: str) -> str:
    """The pipeline that a checkpoint's folder names."""
    index = json.loads((Path(checkpoint) / "model_index.json").read_text("utf-8"))
    return str(index["_class_name"])


class DiffusersDrawer:
    """`packages` are those whose versions matter; `prepare` is called before each job.

    `noise` gives a job's own, or None for what the pipeline draws of the job's seed; for text-to-image alone. `held`
    tells bytes of a GPU's memory, 0 where that is not known.
    """

    def __init__(
        self,
        pipeline: Any,
        packages: Sequence[str],
        engine: Engine,
        prepare: Callable[[Job], None] = lambda _: None,
        noise: Callable[[Job], Any] = lambda _: None,
        held: Callable[[], int] = lambda: 0,
    ) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self._torch: Any = importlib.import_module("torch")
        self._diffusers: Any = importlib.import_module("diffusers")
        self._pipeline = pipeline
        self._task = engine.task
        self._places = _places(pipeline, engine.task)
        self._config = dict(pipeline.scheduler.config)
        self._on_gpu = engine.gpu is not None
        self._prepare = prepare
        self._noise = noise
        self._held = held
        self._energy = energy.Meter(engine.gpu)
        self._lap_seconds = laps.cost(self._on_gpu)
        self.backend = packages[0]
        self.versions = {name: metadata.version(name) for name in packages}

    def draw(self, job: Job, save: str = "") -> Drawn:
        """See `Drawer.draw`."""
        clock = Laps(self._on_gpu)
        kind = getattr(self._diffusers, SCHEDULERS[job.scheduler])
        self._pipeline.scheduler = kind.from_config(self._config)
        pictures = given(job)
        with self._energy.measuring(), laps.timed(self._places, clock), self._decoded() as latents:
            begun = time.perf_counter()
            self._prepare(job)
            drawn = self._run(job, pictures)
            if self._on_gpu:
                self._torch.cuda.synchronize()
            seconds = time.perf_counter() - begun
        if save:
            scale = self._pipeline.vae.config.scaling_factor
            save_drawn(
                save, drawn, np.concatenate([(each * scale).float().cpu().numpy() for each in latents])
            )
        parts, on_device = clock.wall(), clock.device()
        parts["runtime"] = seconds - sum((on_device or parts).values())
        return Drawn(
            seconds, parts, on_device, clock.calls["unet_step"], resident_bytes(), self._held(),
            self._energy.joules, clock.calls.total() * self._lap_seconds, clock_mhz=self._energy.clock_mhz(),
        )  # fmt: skip

    def _run(self, job: Job, pictures: dict[str, Any]) -> Any:
        if self._task == TEXT_TO_IMAGE:
            pictures = {"latents": self._noise(job)}
        if self._task in (TEXT_TO_IMAGE, INPAINTING):  # the others are as large as the picture
            pictures |= {"height": job.height, "width": job.width}
        with self._torch.inference_mode():
            return self._pipeline(
                job.prompt, num_inference_steps=job.steps, guidance_scale=job.guidance_scale,
                num_images_per_prompt=job.batch, output_type="np",
                generator=self._torch.Generator().manual_seed(job.seed), **pictures,
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


def _places(pipeline: Any, task: str) -> list[Place]:
    """The programs of the task, and the safety checker of a pipeline that has one."""
    checker = getattr(pipeline, "safety_checker", None)
    looking: list[Place] = [] if task == TEXT_TO_IMAGE else [(pipeline.vae, "encode", "vae_encoder")]
    if task == DEPTH_TO_IMAGE:
        looking.append((pipeline.depth_estimator, "forward", "depth_estimator"))
    return [
        (pipeline.text_encoder, "forward", "text_encoder"),
        *looking,
        (pipeline.unet, "forward", "unet_step"),
        (pipeline.vae, "decode", "vae_decoder"),
        *([] if checker is None else [(checker, "forward", "safety_checker")]),
    ]
