"""The one seam between the runtime and the libraries that execute programs.

A backend is a module of this package, named after the library it drives, with a `load` function (`Backend`).
It is found by its file name, imported when it is asked for, and never replaced by another one.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from calotype.errors import BackendError
from calotype.manifest import ProgramSpec

Array = NDArray[Any]

# What imports a backend's library, where that is not its name, and backends that run nothing but what was compiled.
MODULES: Mapping[str, str] = {"tensorrt_rtx": "tensorrt_rtx_bindings"}
COMPILED_ONLY = ("tensorrt", "tensorrt_rtx")
# What `auto` tries, by device and precision, first to last: on CPUs the faster one first (fp32 UNet of 80 M
# weights, 64x64 latents: 7.5 s against 7.9 s on one core). ONNX Runtime has no kernels in bf16 on CPUs.
ORDER: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("cpu", "fp32"): ("openvino", "onnxruntime"),
    ("cpu", "fp16"): ("openvino", "onnxruntime"),
    ("cpu", "bf16"): ("openvino",),
    ("cuda", "fp32"): ("tensorrt", "tensorrt_rtx", "onnxruntime"),
    ("cuda", "fp16"): ("tensorrt", "tensorrt_rtx", "onnxruntime"),
    ("cuda", "bf16"): ("tensorrt", "tensorrt_rtx", "onnxruntime"),
}


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """How to load programs. `device` is `cpu`, `cuda` or `cuda:1`; `threads` None leaves it to the library.

    `graphs`: whether what runs on a GPU is recorded once and launched as a whole. `compiled`: whether a library on the
    host opens what was compiled for it before, where there is some.

    BackendError for any other device, and for fewer than one thread.
    """

    device: str = "cpu"
    threads: int | None = None
    graphs: bool = True
    compiled: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", str(self.device)):
            raise BackendError(f"device: expected cpu, cuda or cuda:<number>, found {self.device!r}")
        if self.threads is not None and (isinstance(self.threads, (str, float)) or self.threads < 1):
            raise BackendError(
                f"threads: expected at least 1, found {self.threads!r}", "None leaves it to the library"
            )

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""
        return self.device.partition(":")[0]

    @property
    def index(self) -> int:
        """Which of several devices, 0 where none was named."""
        return int(self.device.partition(":")[2] or 0)


class Row(Protocol):
    """A row of a tensor, where it lies: an array on the host, or device memory of its own, which numpy can read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> Array: ...


Value = np.ndarray | Sequence[Row]  # a whole tensor, or its rows along the first axis


class Program(Protocol):
    """One compiled, loaded, fixed-shape graph with named tensors.

    Inputs are copied into buffers that are the program's own and stay there until replaced. Arrays that a
    call returns are the program's own buffers: valid until its next run, copy them to keep them.
    A program is not safe for two threads at once; `Pipeline` queues its calls.
    """

    spec: ProgramSpec
    asynchronous: bool  # runs may return before they are done, and binding then waits for an earlier one

    @property
    def device_seconds(self) -> float:
        """What a GPU spent on it so far, by its own clock: from a run's launch to its end. 0 without a GPU."""
        ...

    def bind(self, inputs: Mapping[str, Value]) -> None:
        """Set inputs, whole; dtype and shape must be the spec's, or nothing is set. BackendError.

        Rows that another program of the same `load` kept do not leave the device.
        """
        ...

    def carry(self, output: str, into: str) -> None:
        """From now on each run leaves `output` in input `into` for the next, without a copy to the host."""
        ...

    def put(self, name: str, row: int, value: np.ndarray) -> None:
        """Replace row `row` (along the first axis) of input `name`, which was bound whole before."""
        ...

    def get(self, name: str, row: int) -> np.ndarray:
        """A copy of row `row` of input or output `name`: of a carried one, what the last run left there."""
        ...

    def keep(self, name: str, *index: int) -> Row:
        """A copy of row `index[0]` of input or output `name`, or of what lies deeper in it, where the program runs.

        It outlasts the next run, and nobody waits for it before it is read.
        """
        ...

    def launch(self, inputs: Mapping[str, Value]) -> None:
        """Bind `inputs` and run; on a GPU without waiting for it. Outputs stay where they are, for `keep` and `get`.

        BackendError names the inputs that were never given.
        """
        ...

    def run(self, inputs: Mapping[str, Value]) -> Mapping[str, np.ndarray]:
        """As `launch`, and return the outputs that are not carried, by name."""
        ...

    def sweep(self, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Run once for each of `rows`, whose inputs it takes; every output that matters must be carried.

        On a GPU the host does nothing in between. BackendError.
        """
        ...

    def replace_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Compute from now on with `weights` (by initializer) in place of those exported, and with no others.

        They have the exported shapes and types; bfloat16 comes as uint16. The arrays are the program's from then on.
        Tensors stay bound. BackendError, after which nothing is known of the weights.
        """
        ...

    def wait(self) -> None:
        """Return when all that was launched is done; reading an output waits by itself."""
        ...

    def close(self) -> None:
        """Release what the program holds; further calls are an error."""
        ...


class Backend(Protocol):
    """What a module of this package offers."""

    def load(self, root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> Sequence[Program]:
        """Load `specs`, whose files lie below `root`, and compare their tensors with the specs'.

        The programs never run at the same time, and may share memory.
        """
        ...


def names() -> tuple[str, ...]:
    """The backends there are, installed or not, by name."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in modules if not name.startswith("_")))


def installed() -> tuple[str, ...]:
    """The backends whose library is installed; nothing is imported to find out."""
    return tuple(name for name in names() if importlib.util.find_spec(MODULES.get(name, name)) is not None)


def check_name(name: str) -> None:
    """BackendError unless `name` is `auto` or one of `names()`, whether its library is installed or not."""
    if name not in (*names(), "auto"):
        nearest = difflib.get_close_matches(str(name), (*names(), "auto"), 1, 0.4)
        raise BackendError(
            f"unknown backend {name!r}; expected auto or one of {', '.join(names())}",
            f"did you mean {nearest[0]}?" if nearest else "auto takes what is installed",
        )


def choose(name: str, precision: str, device: str = "cpu", compiled: Sequence[str] = ()) -> str:
    """The backend that `name` means: itself, or for `auto` the first one of `ORDER` that is installed.

    `precision` is the bundle's (`fp32`, `fp16`, `bf16`), `compiled` are the backends that it was compiled for:
    `auto` takes TensorRT only where it is among them. BackendError for a name that is unknown, a library
    that is missing, and where `auto` finds none.
    """
    if name != "auto":
        return _installed(name)
    options = BackendOptions(device)
    candidates = [
        candidate
        for candidate in ORDER.get((options.kind, precision), ())
        if candidate not in COMPILED_ONLY or candidate in compiled
    ]
    present = [candidate for candidate in candidates if candidate in installed()]
    if not present:
        wanted = " or ".join(candidates) or "none that is known"
        raise BackendError(
            f"backend `auto`: none is installed that runs {precision} on {device}; expected {wanted}",
            f'pip install "{_extra(candidates[0])}"' if candidates else "precisions are fp32, fp16 and bf16",
        )
    return present[0]


def load(name: str, root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> tuple[Program, ...]:
    """Load the programs `specs`, whose files lie below `root`, on the backend `name` and no other.

    BackendError: the backend is unknown or its library missing, or it cannot run one of these programs.
    BundleError: a graph is not what its spec says, or refers to data outside its `files`.
    """
    _installed(name)
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except (ImportError, OSError) as error:
        raise BackendError(
            f"backend {name}: its library is installed but cannot be imported: {error}",
            f'pip install --force-reinstall "{_extra(name)}"',
        ) from error
    return tuple(cast(Backend, module).load(root, specs, options))


def _installed(name: str) -> str:
    check_name(name)
    if name not in installed():
        raise BackendError(f"backend {name}: its library is not installed", f'pip install "{_extra(name)}"')
    return name


def _extra(name: str) -> str:
    return f"calotype[{name.replace('_', '-')}]"
