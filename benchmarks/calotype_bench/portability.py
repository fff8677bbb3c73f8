"""Whether a TensorRT-RTX plan that was built for one compute capability opens on the GPU of this machine."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calotype import backends
from calotype.backends._tensorrt import Log, logger
from calotype.bundle import Bundle
from calotype_export.progress import silent
from calotype_export.tensorrt_builder import BuilderOptions, build_plan

CAPABILITIES = (("8.0",), ())  # an older card's, and none in particular


def probe(root: Path, capabilities: Sequence[tuple[str, ...]] = CAPABILITIES) -> dict[str, str]:
    """By capability, whether the text encoder's plan opens here; `none` where none was named."""
    if "tensorrt_rtx" not in backends.installed():
        return {"tensorrt_rtx": "its library is not installed"}
    library: Any = importlib.import_module("tensorrt_rtx_bindings")
    return {",".join(each) or "none": _open(library, root, each) for each in capabilities}


def _open(library: Any, root: Path, capabilities: tuple[str, ...]) -> str:
    options = BuilderOptions(compute_capabilities=capabilities)
    try:
        spec = Bundle.open(root).program("text_encoder")
        built = build_plan(library, root / spec.files[0].path, spec, options, silent)
    except Exception as error:  # whatever the library raises is the answer
        return f"not built: {error}"
    log = Log()
    try:
        engine = library.Runtime(logger(library, log)).deserialize_cuda_engine(built.data)
        context = None if engine is None else engine.create_execution_context()
    except Exception as error:
        return f"does not open: {error}"
    return f"does not open: {log.errors()}" if context is None else "opens, with a context; nothing was run"
