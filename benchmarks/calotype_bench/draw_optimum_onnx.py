"""optimum-onnx's ONNX Runtime pipeline, drawing for a worker in an environment of its own.

`python -m calotype_bench.draw_optimum_onnx CHECKPOINT FOLDER` exports a checkpoint with the package's own exporter.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from calotype_bench.diffusers_drawer import (
    PIPELINES,
    DiffusersDrawer,
    limit_threads,
    made_for,
    pipeline_class,
)
from calotype_bench.jobs import Engine
from calotype_bench.worker import Drawer


def library(engine: Engine) -> Any:
    """The pipeline's class, whose modules the package imports when they are first asked for."""
    return _class(PIPELINES[engine.task])


def load(engine: Engine) -> Drawer:
    """Load what `main` exported, in fp32: ONNX Runtime has no bf16 convolution on CPUs."""
    if engine.dtype != "fp32":
        raise ValueError(f"the exporter writes fp32 alone, found {engine.dtype}")
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    # threads rest between programs, as in our own sessions
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if engine.threads is not None:
        options.intra_op_num_threads = engine.threads
        limit_threads(engine.threads)
    provider, settings = "CPUExecutionProvider", {}
    if engine.gpu is not None:
        runtime.preload_dlls()  # CUDA and cuDNN of pip's packages
        # float32 is not to be rounded to TF32's 10 bits, as in no other row
        provider, settings = "CUDAExecutionProvider", {"device_id": engine.gpu, "use_tf32": "0"}
    pipeline = library(engine).from_pretrained(
        engine.path, provider=provider, provider_options=settings, session_options=options
    )
    packages = ("optimum-onnx", "onnxruntime", "transformers", "diffusers")
    return DiffusersDrawer(pipeline, packages, engine)


def main() -> None:
    """Export, in fp32."""
    checkpoint, folder = sys.argv[1:]
    pipeline = _class(made_for(checkpoint)).from_pretrained(checkpoint, export=True)
    pipeline.save_pretrained(folder)


def _class(name: str) -> Any:
    return pipeline_class("optimum.onnxruntime", "ORT", name)


if __name__ == "__main__":
    main()
