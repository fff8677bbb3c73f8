"""Which files an ONNX graph reads its weights from, compared with the bundle's before anything opens them.

Only the protobuf fields that can hold a tensor are followed (onnx/onnx.proto; numbers in `FIELDS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from calotype.errors import BundleError
from calotype.manifest import ProgramSpec

# message -> {field number: the message in it}
FIELDS = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
KEY, VALUE = 1, 2  # of an Entry, a StringStringEntryProto


def check(root: Path, spec: ProgramSpec) -> None:
    """BundleError where the graph is no ONNX file, or its data no plain file among `spec.files`."""
    graph = PurePosixPath(spec.files[0].path)
    own = {file.path for file in spec.files[1:]}
    try:
        found = set(locations(memoryview((root / graph).read_bytes())))
    except (OSError, ValueError) as error:
        raise BundleError(f"{graph} is no ONNX graph: {error}", "export the bundle again") from error
    for location in sorted(found):
        path = str(graph.parent / location)
        if location != PurePosixPath(location).name or path not in own:
            raise BundleError(
                f"{graph}: its weights lie in {location!r}; expected {' or '.join(sorted(own)) or 'no file'}",
                "a graph may read the bundle's own files only: do not load this bundle",
            )
        if (root / path).is_symlink() or not (root / path).is_file():
            raise BundleError(
                f"{graph}: its weights {path} are no plain file", "copy the bundle with its files"
            )


def locations(data: memoryview, message: str = "Model") -> Iterator[str]:
    """The `location` of every tensor with external data. ValueError where `data` is not protobuf."""
    for number, content in _fields(data):
        child = FIELDS[message].get(number)
        if child == "Entry":
            entry = dict(_fields(content))
            if bytes(entry.get(KEY, b"")) == b"location":
                yield bytes(entry.get(VALUE, b"")).decode()
        elif child is not None:
            yield from locations(content, child)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every length-delimited field; the others are passed over."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        start = end = position
        match tag & 7:
            case 0:
                _, end = _varint(data, position)
            case 1:
                end = position + 8
            case 2:
                size, start = _varint(data, position)
                end = start + size
            case 5:
                end = position + 4
            case kind:
                raise ValueError(f"unknown wire type {kind}")
        if end > len(data):
            raise ValueError("it ends in the middle of a field")
        if tag & 7 == 2:
            yield tag >> 3, data[start:end]
        position = end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise ValueError("it ends in the middle of a number")
