"""What is alive at once between a graph's nodes."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from calotype.bundle import Bundle
from calotype_export.liveness import activation_bytes
from tests import bundles

KIB = 1024


def graph(text: str) -> ir.Graph:
    """The graph between `x`, of 1 KiB, and `y`."""
    header = "<ir_version: 10, opset_import: ['' : 20]> agraph (float[256] x) => (float[256] y)"
    return ir.from_onnx_text(f"{header.replace(chr(39), chr(34))} {{ {text} }}").graph


def sized(found: ir.Graph, **sizes: int) -> ir.Graph:
    for value in (value for node in found for value in node.outputs):
        value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape([sizes.get(str(value.name), 256)])
    return found


@pytest.mark.parametrize(
    ("text", "kibibytes"),
    [
        ("a = Conv(x, x)  b = Conv(a, x)  y = Conv(b, x)", 2),  # what is read and what is made
        ("a = Conv(x, x)  b = Relu(a)  y = Conv(b, x)", 1),  # in place
        ("a = Conv(x, x)  b = Relu(a)  c = Conv(b, a)  y = Conv(c, x)", 3),  # not over what is read again
        ("a = Conv(x, x)  b = Reshape(a, x)  c = Conv(b, x)  y = Conv(c, x)", 2),  # a view has no memory
        ("a = Conv(x, x)  b = Reshape(a, x)  c = Conv(b, x)  y = Conv(c, a)", 2),  # and keeps what it shows
        ("a = Conv(x, x)  b = Conv(x, x)  c = Conv(x, x)  d = Add(a, b)  e = Add(d, c)  y = Conv(e, x)", 3),
        ("a = Conv(x, x)  y = Conv(x, x)", 1),  # nobody reads it
    ],
)
def test_what_is_read_later_stays(text: str, kibibytes: int) -> None:
    assert activation_bytes(sized(graph(text))) == kibibytes * KIB


def test_sizes_count_and_one_that_is_not_fixed_is_an_error() -> None:
    found = graph("a = Conv(x, x)  b = Conv(a, x)  y = Conv(b, x)")
    assert activation_bytes(sized(found, a=1024, b=512)) == 6 * KIB
    next(iter(found)).outputs[0].shape = None
    with pytest.raises(RuntimeError, match="a has no fixed shape"):
        activation_bytes(found)


def test_the_manifest_tells_it_of_every_program() -> None:
    bundle = Bundle.open(bundles.bundle("plain"))
    for spec in bundle.manifest.programs:
        read = ir.load(bundle.root / spec.files[0].path).graph
        assert (spec.activation_bytes, spec.nodes) == (activation_bytes(read), len(read))
    one, two = (bundle.program("unet_step", batch).activation_bytes for batch in (1, 2))
    assert 1.8 < two / one < 2.1
