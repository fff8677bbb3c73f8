"""The stand-ins' signatures are those of the libraries that are installed here."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

import pytest

from tests.bundles import ROOT
from tests.standin import record
from tests.standin.conforming import RECORDED, like
from tests.standin.cuda import Cuda


def test_the_cuda_runtime_is_the_recorded_one() -> None:
    runtime: Any = pytest.importorskip("cuda.bindings.runtime")
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if f"cuda-bindings=={metadata.version('cuda-bindings')}" not in pins:
        pytest.skip("another version than the recorded one, which constraints.txt names")
    assert record.of_functions(runtime) == RECORDED["cuda"]


def test_any_cuda_runtime_has_what_the_stand_in_has() -> None:
    """And nothing that is not as it was recorded."""
    runtime: Any = pytest.importorskip("cuda.bindings.runtime")
    found = record.of_functions(runtime)
    assert vars(Cuda).keys() & RECORDED["cuda"]["functions"].keys() <= found["functions"].keys()
    for kind, recorded in RECORDED["cuda"].items():
        assert not [name for name in found[kind].keys() & recorded if found[kind][name] != recorded[name]]


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
