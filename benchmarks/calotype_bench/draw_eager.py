"""Eager diffusers, and diffusers under torch.compile, drawing for a worker."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import diffusers
import torch

from calotype_bench.diffusers_drawer import DiffusersDrawer
from calotype_bench.jobs import Engine, Job
from calotype_bench.worker import Drawer

# By name of engine, how torch.compile goes about it: every kernel tuned, or recorded as graphs alone.
MODES = {"compile": "max-autotune", "compile-reduce-overhead": "reduce-overhead"}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def library(_: Engine) -> Any:
    """The pipeline's class, whose modules diffusers imports when they are first asked for."""
    return diffusers.StableDiffusionPipeline


def load(engine: Engine) -> Drawer:
    """Load a checkpoint as a text-to-image pipeline, with its safety checker, convolutions in channels-last order."""
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    pipeline: Any = library(engine).from_pretrained(engine.path, torch_dtype=DTYPES[engine.dtype])
    pipeline.to(engine.device)
    for module in (pipeline.unet, pipeline.vae):
        module.to(memory_format=torch.channels_last)
    if engine.dtype == "fp32":  # on GPUs convolutions would round their inputs to TF32's 10 bits
        torch.backends.cudnn.allow_tf32 = False
    if engine.name in MODES:
        if engine.device == "cpu":  # weights are constants of the kernels, in the order that these like
            inductor: Any = importlib.import_module("torch._inductor.config")
            inductor.freezing = True
        settings: Any = {
            "mode": MODES[engine.name],
            "fullgraph": True,
            "dynamic": False,
        }  # each shape its own kernels
        pipeline.unet = torch.compile(pipeline.unet, **settings)
        pipeline.vae.decode = torch.compile(pipeline.vae.decode, **settings)
    places = [
        (pipeline.text_encoder, "forward", "text_encoder"),
        (pipeline.unet, "forward", "unet_step"),
        (pipeline.vae, "decode", "vae_decoder"),
    ]
    if pipeline.safety_checker is not None:
        places.append((pipeline.safety_checker, "forward", "safety_checker"))
    on_gpu = engine.device != "cpu"
    noise = partial(fp32_noise, pipeline=pipeline, dtype=DTYPES[engine.dtype])
    return DiffusersDrawer(pipeline, places, ("torch", "diffusers", "transformers"), on_gpu, noise=noise)


def fp32_noise(job: Job, pipeline: Any, dtype: torch.dtype) -> torch.Tensor:
    """What fp32 draws, rounded: before torch 2.13 a pipeline in half precision drew other numbers of the same seed."""
    scale = pipeline.vae_scale_factor
    shape = (job.batch, pipeline.unet.config.in_channels, job.height // scale, job.width // scale)
    return torch.randn(shape, generator=torch.Generator().manual_seed(job.seed)).to(pipeline.device, dtype)
