"""Eager diffusers as a peer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from calotype_bench.diffusers_drawer import limit_threads
from calotype_bench.draw_eager import check_kernels, load, product_seconds
from calotype_bench.jobs import Engine, Job
from tests.bundles import checkpoint


def test_a_precision_without_kernels_is_refused() -> None:
    check_kernels("bf16", in_fp32=0.003, in_dtype=0.006)
    with pytest.raises(
        RuntimeError,
        match=r"100 times as long for a product in bf16 as in fp32.*no kernels for this processor",
    ):
        check_kernels("bf16", in_fp32=0.003, in_dtype=0.3)


def test_the_product_is_timed_in_the_precision_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.Tensor] = []
    ones = torch.ones

    def kept(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        made.append(ones(*shape, dtype=dtype))
        return made[-1]

    monkeypatch.setattr(torch, "ones", kept)
    assert 0 < product_seconds(torch.float64) < 10
    assert [each.dtype for each in made] == [torch.float64] * 2


def test_threads_are_as_many_as_were_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        for number in (3, 2):
            limit_threads(number)
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)


def test_every_network_is_compiled_and_each_in_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_(network: Any, **settings: Any) -> Any:
        assert settings == {"mode": "max-autotune", "fullgraph": True, "dynamic": False}
        compiled.append(getattr(network, "__name__", type(network).__name__))
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr("torch._inductor.config.freezing", False)
    drawer = load(Engine("compile", str(checkpoint("plain")), threads=1))
    assert compiled == ["CLIPTextModel", "UNet2DConditionModel", "decode", "CLIPVisionModel"]
    drawn = drawer.draw(Job("a red circle", 2, 0, width=128, height=128))
    assert {"text_encoder", "unet_step", "vae_decoder", "safety_checker"} <= {*drawn.parts}
