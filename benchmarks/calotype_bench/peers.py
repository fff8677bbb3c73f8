"""What Calotype is measured beside: names, precisions, and packages of those that live in environments of their own."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calotype_bench import environments
from calotype_bench.conversation import Worker
from calotype_bench.environments import PeerError, Say
from calotype_bench.jobs import DEPTH_TO_IMAGE, TASKS, Engine


@dataclass(frozen=True, slots=True)
class Peer:
    """A way of drawing with a checkpoint."""

    packages: tuple[str, ...] = ()  # none: it runs in this environment
    environment: str = ""  # that others share with it; its own name where there is none
    unwanted: tuple[str, ...] = ()  # what comes along and breaks it
    exporter: str = ""  # the module of this package that makes a model of a checkpoint first
    on_gpu: tuple[str, ...] = ()  # packages where it draws on a GPU; empty: the same
    tasks: tuple[str, ...] = TASKS  # what it has pipelines for


_WITHOUT_DEPTH = tuple(task for task in TASKS if task != DEPTH_TO_IMAGE)
# Torch for a GPU is of the build that its driver needs, as this environment has it.
_DIFFUSERS = Peer(("torch", "diffusers", "transformers", "accelerate"), "diffusers")
# PyPI's torchvision, which comes along, is built for torch with CUDA and fails to import beside one without
PEERS: Mapping[str, Peer] = {
    "eager": _DIFFUSERS,
    "compile": _DIFFUSERS,
    "compile-reduce-overhead": _DIFFUSERS,
    "optimum-intel": Peer(
        ("torch", "optimum-intel[openvino,diffusers]==2.2.0"),
        unwanted=("torchvision",),
        exporter="draw_optimum_intel",
        tasks=_WITHOUT_DEPTH,
    ),
    "optimum-onnx": Peer(
        ("torch", "optimum-onnx[onnxruntime]==0.1.0", "diffusers<0.36"),
        exporter="draw_optimum_onnx",
        on_gpu=("torch", "optimum-onnx[onnxruntime-gpu]==0.1.0", "diffusers<0.36"),
        tasks=_WITHOUT_DEPTH,
    ),
    "stable-diffusion.cpp": Peer(("stable-diffusion-cpp-python==0.4.7", "numpy"), tasks=_WITHOUT_DEPTH),
}
PRECISIONS = ("fp32", "fp16", "bf16")
# Of eager diffusers, where it shows how far its own float32 is from the truth.
OF_NOISE = (*PRECISIONS, "fp64")


def names() -> tuple[str, ...]:
    """What `--against` takes: a peer in fp32, or with its precision behind a hyphen."""
    return tuple(f"{peer}{suffix}" for peer in PEERS for suffix in ("", "-bf16", "-fp16"))


def split(name: str) -> tuple[str, str]:
    """The peer and the precision of one of `names`, or of one in a precision of `OF_NOISE`."""
    base, _, precision = name.rpartition("-")
    return (base, precision) if precision in OF_NOISE else (name, "fp32")


def engine(name: str, checkpoint: str, device: str, threads: int | None) -> Engine:
    """One of `names`, drawing with `checkpoint`."""
    kind, precision = split(name)
    return Engine(kind, checkpoint, "", precision, device, threads)


def prepare(engine: Engine, say: Say) -> tuple[str, str]:
    """The interpreter that runs `engine`, and what it loads, installed and exported as needed. PeerError, OSError.

    Diffusers runs in this environment on a GPU, and where it is what others are compared with and not timed.
    """
    peer = PEERS.get(engine.name, Peer())
    if engine.task not in peer.tasks:
        raise PeerError(f"{engine.label}: it has no pipeline for {engine.task}")
    here = peer == _DIFFUSERS and (engine.device != "cpu" or not engine.timed)
    if here or not peer.packages:
        return sys.executable, engine.path
    name = peer.environment or engine.name
    packages = peer.packages if engine.device == "cpu" else peer.on_gpu or peer.packages
    interpreter = environments.python(name, packages, peer.unwanted, say)
    if not peer.exporter:
        return interpreter, engine.path
    return interpreter, environments.exported(
        engine.name, interpreter, peer.exporter, [Path(engine.path)], say
    )


def opened(engine: Engine, say: Say, timeout: float) -> Worker:
    """A worker with `engine`, prepared as `prepare` does. PeerError, OSError."""
    interpreter, path = prepare(engine, say)
    return Worker(dataclasses.replace(engine, path=path), interpreter, timeout)
