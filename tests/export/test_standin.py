"""The stand-ins' signatures are those of the libraries that are installed here."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.standin import record
from tests.standin.conforming import RECORDED, like
from tests.standin.cuda import Cuda


def test_the_cuda_runtime_is_the_recorded_one() -> None:
    """An older one has no others, and all that the stand-in has."""
    runtime: Any = pytest.importorskip("cuda.bindings.runtime")
    found = record.of_functions(runtime)
    used = {name for name in vars(Cuda) if name.startswith("cuda") and callable(vars(Cuda)[name])}
    classes = {"cudaMemcpyKind", "cudaStreamCaptureMode"}
    assert used - classes <= found["functions"].keys()
    for kind, recorded in RECORDED["cuda"].items():
        assert found[kind].items() <= recorded.items()


def test_tensorrt_rtx_is_the_recorded_one() -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    assert record.of_classes(importlib.import_module("tensorrt_rtx_bindings")) == RECORDED["tensorrt_rtx"]


def test_a_member_that_the_real_class_lacks_is_refused() -> None:
    with pytest.raises(AttributeError, match="IExecutionContext has no set_tensor_adress"):

        @like("tensorrt", "IExecutionContext")
        class _Context:
            def set_tensor_adress(self, name: str, memory: int) -> bool:
                return True


def test_other_arguments_than_the_real_ones_are_refused() -> None:
    class Context:
        def set_tensor_address(self, name: str, memory: int) -> bool:
            return True

    context: Any = like("tensorrt", "IExecutionContext")(Context)()
    assert context.set_tensor_address("state", 256)
    for arguments in (("state",), (256, "state"), ("state", 256, 4)):
        with pytest.raises(TypeError, match="takes name: str, memory: SupportsInt; it was given"):
            context.set_tensor_address(*arguments)
