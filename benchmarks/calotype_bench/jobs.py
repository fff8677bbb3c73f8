"""What a worker is told to load and to draw, and what it answers: the only things that cross between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Engine:
    """What draws: a bundle in Calotype, or a checkpoint in a peer."""

    name: str  # calotype, eager or compile
    path: str  # a bundle's folder or a checkpoint's
    backend: str = "auto"  # of Calotype
    dtype: str = "fp32"  # of a peer: fp32, fp16 or bf16
    device: str = "cpu"
    threads: int | None = None  # None: the library's own choice

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"calotype {self.backend}" if self.name == "calotype" else f"{self.name} {self.dtype}"


@dataclass(frozen=True, slots=True)
class Job:
    """One picture, or a batch of them, drawn with guidance."""

    prompt: str
    steps: int
    seed: int
    scheduler: str = "ddim"
    guidance_scale: float = 7.5
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker says when it can draw. Seconds are of a cold start; memory is in bytes."""

    backend: str
    import_seconds: float  # from the start of the process until its libraries are imported
    load_seconds: float
    versions: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Drawn:
    """One timed picture: wall seconds from the call until the picture is a numpy array, and of its parts."""

    seconds: float
    parts: Mapping[str, float]  # by program; `runtime` is everything outside of them
    evaluations: int  # of the UNet, a picture
    resident_bytes: int  # the process's peak so far
    device_bytes: int  # of the GPU, in use by the process; 0 on a CPU
    latents: str = ""  # a .npy file, where one was asked for


@dataclass(frozen=True, slots=True)
class Failed:
    """The last thing that a worker says where it cannot load or draw."""

    failure: str
