"""Names, the order of `auto`, options, and what is said when a library is missing or broken."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calotype import backends
from calotype.backends import BackendOptions
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec

SPEC = ProgramSpec("vae_decoder", 1, "fp32", (), (), ())


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """`only` hides every library; a test may show some again through `show`."""
    show(monkeypatch)
    return monkeypatch


def show(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in libraries else None)


def test_backends_are_found_by_their_file_names() -> None:
    assert set(backends.names()) >= {"onnxruntime", "openvino"}
    assert not [name for name in backends.names() if name.startswith("_")]


def test_only_backends_with_a_library_count_as_installed(only: pytest.MonkeyPatch) -> None:
    assert backends.installed() == ()
    show(only, "openvino")
    assert backends.installed() == ("openvino",)


@pytest.mark.parametrize(
    ("installed", "precision", "device", "chosen"),
    [
        (("openvino", "onnxruntime"), "fp32", "cpu", "openvino"),
        (("openvino", "onnxruntime"), "fp16", "cpu", "openvino"),
        (("openvino", "onnxruntime"), "bf16", "cpu", "openvino"),
        (("onnxruntime",), "fp32", "cpu", "onnxruntime"),
        (("openvino", "onnxruntime"), "fp16", "cuda:1", "onnxruntime"),
    ],
)
def test_auto_takes_the_first_installed_of_the_documented_order(
    only: pytest.MonkeyPatch, installed: tuple[str, ...], precision: str, device: str, chosen: str
) -> None:
    show(only, *installed)
    assert backends.choose("auto", precision, device) == chosen


def test_auto_says_what_it_looked_for_where_it_finds_nothing(only: pytest.MonkeyPatch) -> None:
    show(only, "onnxruntime")
    message = r"(?s)`auto`: none is installed that runs bf16 on cpu; expected openvino.*pip install .calotype\[openvino"
    with pytest.raises(BackendError, match=message):
        backends.choose("auto", "bf16")


def test_auto_knows_no_other_precision() -> None:
    with pytest.raises(BackendError, match=r"(?s)runs int8 on cpu.*precisions are fp32, fp16 and bf16"):
        backends.choose("auto", "int8")


def test_an_explicit_choice_is_kept_whatever_the_order_says(only: pytest.MonkeyPatch) -> None:
    show(only, "openvino", "onnxruntime")
    assert backends.choose("onnxruntime", "bf16") == "onnxruntime"


def test_an_unknown_backend_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        BackendError, match=r"(?s)unknown backend 'onnx'; .*openvino.*did you mean onnxruntime"
    ):
        backends.load("onnx", Path(), [SPEC], BackendOptions())
    with pytest.raises(BackendError, match=r"did you mean auto"):
        backends.choose("autos", "fp32")
    with pytest.raises(BackendError, match=r"auto takes what is installed"):
        backends.choose("!", "fp32")


@pytest.mark.parametrize("private", ["_buffers", "_contract", "_external_data", "__init__", "../errors"])
def test_nothing_but_a_backend_can_be_loaded_as_one(private: str) -> None:
    with pytest.raises(BackendError, match=r"unknown backend"):
        backends.load(private, Path(), [SPEC], BackendOptions())


def test_a_missing_library_is_named_with_what_to_install(only: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BackendError, match=r'(?s)openvino: its library is not.*pip install "calotype\[openvino\]"'
    ):
        backends.load("openvino", Path(), [SPEC], BackendOptions())
    with pytest.raises(BackendError, match=r"calotype\[onnxruntime\]"):
        backends.choose("onnxruntime", "fp32")


def test_a_library_that_cannot_be_imported_is_named_with_its_own_message(only: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    show(only, "openvino")
    only.setattr(importlib, "import_module", broken)
    with pytest.raises(BackendError, match=r"(?s)openvino: .* cannot be imported: libtbb.*--force-reinstall"):
        backends.load("openvino", Path(), [SPEC], BackendOptions())


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", "cpu:0", "CUDA"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(BackendError, match=f"device: expected cpu, cuda or cuda:<number>, found '{device}'"):
        BackendOptions(device)


@pytest.mark.parametrize("threads", [0, -1, "4", 2.5])
def test_fewer_than_one_thread_is_refused(threads: Any) -> None:
    expected = rf"(?s)threads: expected at least 1, found {re.escape(repr(threads))}.*None leaves it"
    with pytest.raises(BackendError, match=expected):
        BackendOptions(threads=threads)


def test_no_device_at_all_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(BackendError, match="device: expected cpu, cuda or cuda:<number>, found None"):
        BackendOptions(nothing)


def test_a_device_has_a_kind_and_an_index() -> None:
    found = [
        (BackendOptions(device).kind, BackendOptions(device).index) for device in ("cpu", "cuda", "cuda:12")
    ]
    assert found == [("cpu", 0), ("cuda", 0), ("cuda", 12)]


def test_choosing_a_backend_imports_no_vendor_library() -> None:
    code = (
        "import sys; from calotype import backends; backends.installed(); backends.names();"
        "print({name.partition('.')[0] for name in sys.modules} & {'openvino', 'onnxruntime', 'torch'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
