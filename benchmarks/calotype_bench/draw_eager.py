"""Eager diffusers, and diffusers under torch.compile, drawing for a worker."""

from __future__ import annotations

import importlib
import timeit
from functools import partial
from typing import Any

import diffusers
import torch

from calotype_bench.diffusers_drawer import PIPELINES, DiffusersDrawer, limit_threads
from calotype_bench.jobs import DEPTH_TO_IMAGE, TEXT_TO_IMAGE, Engine, Job
from calotype_bench.worker import Drawer

# By name of engine, how torch.compile goes about it: every kernel tuned, or recorded as graphs alone.
MODES = {"compile": "max-autotune", "compile-reduce-overhead": "reduce-overhead"}
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Times as long as in float32. With kernels a product takes less; without (bf16 on x86 without AVX-512) 40 to 300.
_SLOWEST = 20.0


def library(engine: Engine) -> Any:
    """The pipeline's class, whose modules diffusers imports when they are first asked for."""
    return getattr(diffusers, PIPELINES[engine.task])


def load(engine: Engine) -> Drawer:
    """Load a checkpoint as a pipeline for its task, with its safety checker, convolutions in channels-last order.

    RuntimeError where it is timed and torch has no kernels for the processor: a picture would take as long as a hundred
    in float32; where it starts from a picture, in half precision, and torch would draw other noise than in float32.
    """
    if engine.task != TEXT_TO_IMAGE and engine.dtype in ("fp16", "bf16"):
        check_noise(torch.__version__)
    if engine.threads is not None:
        limit_threads(engine.threads)
    if engine.device == "cpu" and engine.timed and engine.dtype != "fp32":
        check_kernels(engine.dtype, product_seconds(torch.float32), product_seconds(DTYPES[engine.dtype]))
    if engine.gpu is not None:
        torch.cuda.set_device(engine.gpu)  # whose events and memory are asked for
    pipeline: Any = library(engine).from_pretrained(engine.path, torch_dtype=DTYPES[engine.dtype])
    pipeline.to(engine.device)
    looking = [pipeline.depth_estimator] if engine.task == DEPTH_TO_IMAGE else []
    for module in (pipeline.unet, pipeline.vae, *looking):
        module.to(memory_format=torch.channels_last)
    if engine.dtype == "fp32":  # on GPUs convolutions would round their inputs to TF32's 10 bits
        torch.backends.cudnn.allow_tf32 = False
    if engine.name in MODES:
        _compile(pipeline, engine)
    noise = partial(fp32_noise, pipeline=pipeline, dtype=DTYPES[engine.dtype])
    packages = ("torch", "diffusers", "transformers")
    held = torch.cuda.max_memory_allocated  # 0 without a GPU
    return DiffusersDrawer(pipeline, packages, engine, noise=noise, held=held)


def _compile(pipeline: Any, engine: Engine) -> None:
    """Every network whole; what the safety checker decides of its own network's output is Python."""
    if engine.gpu is None:  # weights are constants of the kernels, in the order that these like
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.freezing = True
    owners = [(pipeline, "text_encoder"), (pipeline, "unet"), (pipeline.vae, "decode")]
    if engine.task != TEXT_TO_IMAGE:
        owners.append((pipeline.vae, "encode"))
    if engine.task == DEPTH_TO_IMAGE:
        _settle(pipeline.depth_estimator)
        owners.append((pipeline, "depth_estimator"))
    elif pipeline.safety_checker is not None:  # which pipelines for depth do not have
        owners.append((pipeline.safety_checker, "vision_model"))
    for owner, name in owners:
        network = getattr(owner, name)
        setattr(owner, name, torch.compile(network, mode=MODES[engine.name], fullgraph=True, dynamic=False))


def _settle(estimator: Any) -> None:
    """Run it once: transformers puts hooks into it then, which cannot be traced."""
    side = estimator.config.image_size
    pixels = torch.zeros(1, estimator.config.num_channels, side, side)
    with torch.inference_mode():
        estimator(pixels.to(estimator.device, estimator.dtype))


def check_kernels(dtype: str, in_fp32: float, in_dtype: float) -> None:
    """RuntimeError where a product takes so much longer in `dtype` that torch cannot have kernels for it."""
    if in_dtype > _SLOWEST * in_fp32:
        raise RuntimeError(
            f"torch takes {in_dtype / in_fp32:.0f} times as long for a product in {dtype} as in fp32: "
            f"it has no kernels for this processor"
        )


def check_noise(version: str) -> None:
    """RuntimeError where this torch draws other numbers in half precision than in float32, of one seed."""
    if tuple(map(int, version.split(".")[:2])) < (2, 13):
        raise RuntimeError(
            f"torch {version} draws other noise in half precision than in fp32: expected 2.13 or later"
        )


def product_seconds(dtype: torch.dtype) -> float:
    """Of two matrices of 512x512, the least of some runs."""
    left, right = (torch.ones(512, 512, dtype=dtype) for _ in range(2))
    with torch.inference_mode():
        return min(timeit.repeat(lambda: left @ right, number=1, repeat=7))


def fp32_noise(job: Job, pipeline: Any, dtype: torch.dtype) -> torch.Tensor:
    """What fp32 draws, rounded: before torch 2.13 a pipeline in half precision drew other numbers of the same seed."""
    scale = pipeline.vae_scale_factor
    shape = (job.batch, pipeline.unet.config.in_channels, job.height // scale, job.width // scale)
    return torch.randn(shape, generator=torch.Generator().manual_seed(job.seed)).to(pipeline.device, dtype)
