"""optimum-intel's OpenVINO pipeline with static shapes, drawing for a worker in an environment of its own.

`python -m calotype_bench.draw_optimum_intel CHECKPOINT FOLDER` exports a checkpoint with the package's own exporter.
"""

from __future__ import annotations

import sys
from typing import Any

from calotype_bench.diffusers_drawer import (
    PIPELINES,
    DiffusersDrawer,
    limit_threads,
    made_for,
    pipeline_class,
)
from calotype_bench.jobs import Engine, Job
from calotype_bench.worker import Drawer

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def library(engine: Engine) -> Any:
    """The pipeline's class, whose modules the package imports when they are first asked for."""
    return _class(PIPELINES[engine.task])


def load(engine: Engine) -> Drawer:
    """Load what `main` exported; it is compiled when the first job tells how many pictures."""
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISIONS[engine.dtype]}
    if engine.threads is not None:
        options["INFERENCE_NUM_THREADS"] = engine.threads
        limit_threads(engine.threads)
    pipeline = library(engine).from_pretrained(
        engine.path, compile=False, device=engine.device.upper(), ov_config=options
    )
    shapes: list[tuple[int, int, int]] = []

    def prepare(job: Job) -> None:
        wanted = job.batch, job.height, job.width
        if shapes[-1:] != [wanted]:
            pipeline.reshape(1, job.height, job.width, job.batch)
            pipeline.compile()
            shapes.append(wanted)

    packages = ("optimum-intel", "openvino", "transformers", "diffusers")
    return DiffusersDrawer(pipeline, packages, engine, prepare=prepare)


def main() -> None:
    """Export, in the checkpoint's own precision."""
    checkpoint, folder = sys.argv[1:]
    pipeline = _class(made_for(checkpoint)).from_pretrained(
        checkpoint, export=True, compile=False, load_in_8bit=False
    )
    pipeline.save_pretrained(folder)


def _class(name: str) -> Any:
    return pipeline_class("optimum.intel", "OV", name)


if __name__ == "__main__":
    main()
