"""Counted operations, against torch's own counter and against counting by hand."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import parser
from torch.utils.flop_counter import FlopCounterMode

from calotype.bundle import Bundle
from calotype_bench import flops
from calotype_export import signatures
from calotype_export.checkpoint import open_checkpoint
from calotype_export.sources import wrapped
from tests.bundles import bundle, checkpoint


@pytest.mark.parametrize(
    ("program", "component"),
    [("unet_step", "unet"), ("text_encoder", "text_encoder"), ("vae_decoder", "vae")],
)
def test_the_count_is_torchs(program: str, component: str) -> None:
    spec = Bundle.open(bundle("plain")).program(program)
    module = wrapped(program, open_checkpoint(checkpoint("plain")).load(component))
    given = signatures.example_tensors(spec.inputs, 0)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        module(given)
    found = flops.count(bundle("plain") / spec.files[0].path)

    assert found["Attention"] > 0  # which torch does not count on a CPU
    assert sum(found.values()) - found["Attention"] == counter.get_total_flops()


def test_products_are_counted_by_hand(tmp_path: Path) -> None:
    graph = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 23]>
        step (float[2,4,8,8] x, float[6,2,3,3] w, float[5,7] a, float[5,3] b, float[2,3,4,5] c, float[2,3,5,6] d,
              float[2,8,64,40] q, float[2,8,77,40] k, float[2,8,77,30] v)
          => (float[2,6,8,8] y, float[7,3] e, float[2,3,4,6] f, float[2,8,64,30] o)
        {
          y = Conv <group = 2, pads = [1, 1, 1, 1]> (x, w)
          e = Gemm <transA = 1> (a, b)
          f = MatMul (c, d)
          o = Attention (q, k, v)
        }""")
    onnx.save(graph, tmp_path / "graph.onnx")
    found = flops.count(tmp_path / "graph.onnx")

    assert found == {
        "Conv": 2 * (2 * 6 * 8 * 8) * (2 * 3 * 3),
        "Gemm": 2 * 7 * 3 * 5,
        "MatMul": 2 * 2 * 3 * 4 * 6 * 5,
        "Attention": 2 * 2 * 8 * 64 * 77 * (40 + 30),
    }
