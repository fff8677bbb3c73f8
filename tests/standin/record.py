"""Write `signatures.json`: the methods of the real bindings, which the stand-ins are held to.

    python -m tests.standin.record cuda.bindings.runtime=cuda tensorrt_rtx_bindings=tensorrt_rtx \
        tensorrt_lean_bindings=tensorrt

TensorRT itself needs its libraries to be imported; TensorRT Lean has the same runtime classes, and is on PyPI.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

SIGNATURES = Path(__file__).with_name("signatures.json")
CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext", "Refitter", "Weights")
ENUMS = ("TensorIOMode", "DataType", "ExecutionContextAllocationStrategy")

Signatures = dict[str, Any]


def of_functions(module: Any) -> Signatures:
    """Parameter names of every function of the CUDA runtime, and the values of its numbers."""
    functions = {
        name: ", ".join(inspect.signature(value).parameters)
        for name, value in vars(module).items()
        if name.startswith("cuda") and inspect.isroutine(value)
    }
    numbers = {
        name: value for name, value in vars(module).items() if name.startswith("cuda") and type(value) is int
    }
    return {"functions": functions, "numbers": numbers}


def of_classes(module: Any) -> Signatures:
    """Methods of every class, with their overloads' parameters, and its properties; names of every enum."""
    classes = {name: _of_class(getattr(module, name)) for name in CLASSES}
    enums = {name: list(getattr(module, name).__members__) for name in ENUMS}
    return {"version": module.__version__, "classes": classes, "enums": enums}


def _of_class(kind: Any) -> Signatures:
    found: Signatures = {}
    for name in sorted(dir(kind)):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_") and name != "__init__":
            continue
        found[name] = "property" if isinstance(member, property) else _overloads(name, member.__doc__ or "")
    return found


def _overloads(name: str, documentation: str) -> list[str]:
    lines = re.findall(rf"^(?:\d+\. )?{name}\((.*?)\)(?: -> .*)?$", documentation, re.MULTILINE)
    return [_parameters(line) for line in lines if "*args" not in line]


def _parameters(line: str) -> str:
    """Names and types, the defaults and `self` left out."""
    parts = re.findall(r"(\w+): ([\w.\[\], |]+?)(?: = (?:<[^>]*>|[^,]+))?(?:, (?=\w+: )|$)", line)
    return ", ".join(f"{name}: {kind.split('.')[-1]}" for name, kind in parts if name != "self")


def main() -> None:
    """Record the modules named on the command line."""
    found = json.loads(SIGNATURES.read_text()) if SIGNATURES.exists() else {}
    for argument in sys.argv[1:]:
        module, name = argument.split("=")
        library = importlib.import_module(module)
        found[name] = of_functions(library) if name == "cuda" else of_classes(library)
    SIGNATURES.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
