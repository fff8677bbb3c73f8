"""One engine in a process of its own: it loads, says how long that took, and then draws when it is told to.

`python -m calotype_bench.worker` reads JSON lines from standard input and answers with JSON lines on standard output;
whatever the libraries print goes to standard error.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image

from calotype_bench.jobs import Drawn, Engine, Failed, Job, Ready

DRAWERS = {
    "calotype": "draw_calotype",
    "eager": "draw_eager",
    "compile": "draw_eager",
    "compile-reduce-overhead": "draw_eager",
    "optimum-intel": "draw_optimum_intel",
    "optimum-onnx": "draw_optimum_onnx",
    "stable-diffusion.cpp": "draw_sdcpp",
}
_REASON = 400  # characters of why an engine cannot draw, at most


class Drawer(Protocol):
    """A loaded engine. Its module has `library(engine)`, which imports what it draws with, and `load(engine)`."""

    backend: str
    versions: dict[str, str]

    def draw(self, job: Job, save: str = "") -> Drawn:
        """Draw, time it, and leave what was drawn in the file `save` (see `save_drawn`) where one is named."""
        ...


def main() -> None:
    """Serve one parent until it closes the pipe."""
    answers = _take_stdout()
    try:
        _serve(answers)
    except Exception as error:
        _say(answers, Failed(_reason(error)))


def _serve(answers: IO[str]) -> None:
    first = json.loads(sys.stdin.readline())
    engine = Engine(**first["engine"])
    module: Any = importlib.import_module(f"calotype_bench.{DRAWERS[engine.name]}")
    module.library(engine)
    imported = time.time() - first["started"]
    begun = time.perf_counter()
    drawer: Drawer = module.load(engine)
    loaded = time.perf_counter() - begun
    _say(answers, Ready(drawer.backend, imported, loaded, drawer.versions))
    for line in sys.stdin:
        told = json.loads(line)
        try:
            answer: Drawn | Failed = drawer.draw(Job(**told["job"]), told["save"])
        except Exception as error:  # it may be able to draw another job
            answer = Failed(_reason(error))
        _say(answers, answer)


def _reason(error: Exception) -> str:
    """In one line: the cause is often not in the first of its own."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_REASON]


def save_drawn(path: str, pictures: Any, latents: Any = None) -> None:
    """`pictures` (n, h, w, 3) in [0, 1] and, where the engine shows them, `latents` (n, C, H, W), as an .npz file."""
    arrays = {"pictures": np.asarray(pictures, np.float32)}
    if latents is not None:
        arrays["latents"] = np.asarray(latents, np.float32)
    whole = Path(path)
    partly = whole.with_suffix(".partial.npz")
    np.savez(partly, **arrays)  # type: ignore[arg-type]
    partly.replace(whole)  # a file that is there can be read


def given(job: Job) -> dict[str, Any]:
    """The job's pictures, by the names that diffusers' pipelines and ours have for them; none for text-to-image."""
    if not job.image:
        return {}
    found: dict[str, Any] = {"image": _picture(job.image, "RGB"), "strength": job.strength}
    return found | ({"mask_image": _picture(job.mask, "L")} if job.mask else {})


def _picture(path: str, mode: str) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert(mode)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident_bytes() -> int:
    """The most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage tells begins with the parent's
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _take_stdout() -> IO[str]:
    """Standard output for answers alone; what anybody else prints there goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _say(answers: IO[str], answer: Ready | Drawn | Failed) -> None:
    answers.write(json.dumps(dataclasses.asdict(answer)) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
