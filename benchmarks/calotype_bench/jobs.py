"""What a worker is told to load and to draw, and what it answers: the only things that cross between processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

TASKS = TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINTING, DEPTH_TO_IMAGE = (
    "text-to-image",
    "image-to-image",
    "inpainting",
    "depth-to-image",
)
PROMPT = "a painting of a lighthouse in a storm"


@dataclass(frozen=True, slots=True)
class Engine:
    """What draws: a bundle in Calotype, or a checkpoint in a peer."""

    name: str  # calotype, or a kind of `peers`
    path: str  # a bundle's folder or a checkpoint's
    backend: str = ""  # of Calotype
    dtype: str = "fp32"  # fp32, fp16 or bf16; fp64 of what shows fp32's noise
    device: str = "cpu"
    threads: int | None = None  # None: the library's own choice
    timed: bool = True  # False: what it draws matters, and not for how long
    task: str = TEXT_TO_IMAGE  # one of TASKS: which of its pipelines draws

    @property
    def label(self) -> str:
        """What tables call it."""
        return " ".join(part for part in (self.name, self.backend, self.dtype) if part)

    @property
    def gpu(self) -> int | None:
        """Which one it draws on, as CUDA counts them; None on a CPU."""
        kind, _, index = self.device.partition(":")
        return None if kind == "cpu" else int(index or 0)


@dataclass(frozen=True, slots=True)
class Job:
    """One picture, or a batch of them, drawn with guidance."""

    prompt: str
    steps: int
    seed: int
    scheduler: str = "ddim"
    guidance_scale: float = 7.5
    batch: int = 1
    width: int = 512
    height: int = 512
    image: str = ""  # a file of that size to start from; empty: from noise alone
    mask: str = ""  # a file, white where the picture is painted
    strength: float = 1.0  # how much of the noise `image` is given

    @property
    def label(self) -> str:
        """What tables call it."""
        steps = f"{self.steps} step{'s' if self.steps != 1 else ''}"
        told = f"{self.batch} x {self.width}x{self.height}, {steps} of {self.scheduler}"
        return f"{told} at strength {self.strength:g}" if self.image else told

    def shortest(self) -> Job:
        """The same in as few steps as leave one to be taken: those above `strength` are left out."""
        return replace(self, steps=math.ceil(1 / self.strength))


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker says when it can draw. Seconds are of a cold start."""

    backend: str
    import_seconds: float  # from the start of the process until its libraries are imported
    load_seconds: float
    versions: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Drawn:
    """One timed picture: wall seconds from the call until the picture is a numpy array, and of its parts."""

    seconds: float
    parts: Mapping[str, float]  # by program; `runtime` is everything outside of them
    device_parts: Mapping[str, float]  # by program, of the GPU's own clock; empty without one
    evaluations: int  # of the UNet, a picture
    resident_bytes: int  # the process's peak so far
    device_bytes: int  # of the GPU, taken by this engine; 0 on a CPU
    joules: float | None  # meanwhile, of what the machine has counters for; None where it has none
    measuring_seconds: float  # what it cost to time the parts
    opening: int = 0  # in which process of its engine it was drawn
    clock_mhz: int | None = None  # of the GPU's multiprocessors when it was done; None where it does not tell

    @property
    def told(self) -> dict[str, float]:
        """Seconds by part: of programs by the GPU's own clock where it has one."""
        return {**self.parts, **self.device_parts}


@dataclass(frozen=True, slots=True)
class Failed:
    """The last thing that a worker says where it cannot load or draw."""

    failure: str
