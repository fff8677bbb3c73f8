"""Safetensors files: tensors out of a checked file, with nothing that could run code.

Format: https://huggingface.co/docs/safetensors, a length (8 bytes), a JSON header and the tensors' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.errors import CheckpointError
from calotype.manifest import ParameterSpec

Array = NDArray[Any]

PICKLE_HINT = (
    "a pickle runs code when it is opened, so only safetensors are read: take the checkpoint's safetensors files, "
    "or convert it yourself where you trust it (diffusers: `save_pretrained(folder, safe_serialization=True)`)"
)
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def check(path: Path) -> None:
    """Compare a safetensors file's size with what its head says. CheckpointError where they differ."""
    _header(path)


def read(path: Path) -> tuple[dict[str, Array], Mapping[str, str]]:
    """Tensors and metadata of a safetensors file; bfloat16 becomes float32.

    CheckpointError for a missing file, a pickle, a cut-off one, or a tensor of a type that is not known here.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path.name} is no .safetensors file", PICKLE_HINT)
    header, begin = _header(path)
    metadata = header.pop("__metadata__", {})
    unknown = sorted({str(entry["dtype"]) for entry in header.values()} - _DTYPES.keys())
    if unknown:
        raise CheckpointError(
            f"{path.name}: expected tensors of {', '.join(_DTYPES)}, found {', '.join(unknown)}"
        )
    data = path.read_bytes()[begin:]
    return {name: _tensor(entry, data) for name, entry in header.items()}, metadata


def stored(path: Path, parameter: ParameterSpec) -> Array:
    """A weight as it lies in a bundle's file: bfloat16 as uint16, and transposed where the manifest says so."""
    dtype = np.dtype("uint16" if parameter.dtype == "bfloat16" else parameter.dtype)
    shape = parameter.shape[::-1] if parameter.transposed else parameter.shape
    count = int(np.prod(shape))
    with path.open("rb") as file:
        file.seek(parameter.offset)
        return np.frombuffer(file.read(count * dtype.itemsize), dtype).reshape(shape)


def widened(bits: Array) -> Array:
    """float32 values of bfloat16 numbers, given as uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(values: Array) -> Array:
    """bfloat16 numbers, as uint16, nearest to float32 `values` (ties to even)."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _tensor(entry: Mapping[str, Any], data: bytes) -> Array:
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(data[begin:end], _DTYPES[entry["dtype"]])
    return (widened(flat) if entry["dtype"] == "BF16" else flat).reshape(entry["shape"])


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a whole file, in which everything is what it must be, and where its tensors begin."""
    size = path.stat().st_size
    name = f"{path.parent.name}/{path.name}"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(
                f"{name} is no whole safetensors file: {size} bytes do not hold its header",
                "download it again; a Git LFS pointer looks like this too",
            )
        try:
            header = json.loads(file.read(length))
            ends = [_end(entry) for key, entry in header.items() if key != "__metadata__"]
            notes = header.get("__metadata__", {})
            if not all(isinstance(text, str) for text in (*notes, *notes.values())):
                raise TypeError("metadata are texts")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{name} is no safetensors file: its header cannot be read: {error}"
            ) from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise CheckpointError(
            f"{name} is cut off: expected {expected} bytes, found {size}", "download it again"
        )
    return header, 8 + length


def _end(entry: Mapping[str, Any]) -> int:
    """Where a tensor's bytes end. ValueError, KeyError or TypeError where the entry contradicts itself."""
    begin, end = entry["data_offsets"]
    numbers = [begin, end, *entry["shape"]]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"expected numbers of at least 0, found {numbers}")
    if (
        entry["dtype"] in _DTYPES
        and end - begin != prod(entry["shape"]) * np.dtype(_DTYPES[entry["dtype"]]).itemsize
    ):
        raise ValueError(f"{end - begin} bytes cannot hold {entry['dtype']} of shape {entry['shape']}")
    return int(end)
