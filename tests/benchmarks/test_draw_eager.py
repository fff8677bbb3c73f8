"""Eager diffusers as a peer."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from calotype_bench.diffusers_drawer import limit_threads
from calotype_bench.draw_eager import check_kernels, check_noise, load, product_seconds
from calotype_bench.jobs import DEPTH_TO_IMAGE, IMAGE_TO_IMAGE, TEXT_TO_IMAGE, Engine, Job
from tests.bundles import checkpoint


def test_a_precision_without_kernels_is_refused() -> None:
    check_kernels("bf16", in_fp32=0.003, in_dtype=0.006)
    with pytest.raises(
        RuntimeError,
        match=r"100 times as long for a product in bf16 as in fp32.*no kernels for this processor",
    ):
        check_kernels("bf16", in_fp32=0.003, in_dtype=0.3)


def test_half_precision_needs_a_torch_that_draws_the_same_noise() -> None:
    check_noise("2.13.0+cpu")
    check_noise("3.0")
    with pytest.raises(
        RuntimeError, match=r"torch 2\.11\.0\+cu130 draws other noise.* expected 2\.13 or later"
    ):
        check_noise("2.11.0+cu130")


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


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("plain", TEXT_TO_IMAGE, ["decode", "CLIPVisionModel"]),
        ("plain", IMAGE_TO_IMAGE, ["decode", "encode", "CLIPVisionModel"]),
        ("depth", DEPTH_TO_IMAGE, ["decode", "encode", "DPTForDepthEstimation"]),
    ],
)
def test_every_network_is_compiled_and_each_in_its_part(
    name: str, task: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    vae_methods: dict[Any, str] = {getattr(AutoencoderKL, method): method for method in ("decode", "encode")}

    def compile_(network: Any, **settings: Any) -> Any:
        assert settings == {"mode": "max-autotune", "fullgraph": True, "dynamic": False}
        compiled.append(vae_methods.get(getattr(network, "__func__", None), type(network).__name__))
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    inductor: Any = importlib.import_module("torch._inductor.config")
    with inductor.patch(freezing=False):  # which puts back what is set inside
        drawer = load(Engine("compile", str(checkpoint(name)), threads=1, task=task))
    assert compiled == ["CLIPTextModel", "UNet2DConditionModel", *expected]
    job = Job("a red circle", 2, 0, width=128, height=128)
    if task != TEXT_TO_IMAGE:
        Image.new("RGB", (128, 128), "red").save(tmp_path / "red.png")
        job = dataclasses.replace(job, image=str(tmp_path / "red.png"), strength=0.5)
    drawn = drawer.draw(job)
    parts = {"decode": "vae_decoder", "encode": "vae_encoder", "CLIPVisionModel": "safety_checker"}
    found = {parts.get(network, "depth_estimator") for network in expected}
    assert {*drawn.parts} == {"text_encoder", "unet_step", "runtime", *found}
