"""Eager diffusers as a peer."""

from __future__ import annotations

import pytest
import torch

from calotype_bench.draw_eager import check_kernels, product_seconds


def test_a_precision_without_kernels_is_refused() -> None:
    check_kernels("bf16", in_fp32=0.003, in_dtype=0.006)
    with pytest.raises(
        RuntimeError,
        match=r"100 times as long for a product in bf16 as in fp32.*no kernels for this processor",
    ):
        check_kernels("bf16", in_fp32=0.003, in_dtype=0.3)


def test_float32_has_kernels_everywhere() -> None:
    check_kernels("fp32", product_seconds(torch.float32), product_seconds(torch.float32))
