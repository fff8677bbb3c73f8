"""Group normalisation in two stages: torch's own numbers, and digits kept where runtimes would lose them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calotype_export.group_norm import SteadyGroupNorm, steady


@pytest.mark.parametrize("shape", [(2, 8, 5, 6), (1, 8, 30)])
def test_it_is_torchs_group_norm(shape: tuple[int, ...]) -> None:
    norm = nn.GroupNorm(4, 8, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 1
    torch.testing.assert_close(SteadyGroupNorm(norm)(x), norm(x))


def test_statistics_of_half_precision_are_float32() -> None:
    norm = nn.GroupNorm(1, 8).half()
    x = (torch.randn(1, 8, 64, 64, generator=torch.Generator().manual_seed(2)) * 100).half()
    expected = nn.functional.group_norm(x.float(), 1)
    torch.testing.assert_close(SteadyGroupNorm(norm)(x).float(), expected, atol=2e-3, rtol=2e-3)


def test_every_norm_is_replaced_and_no_weight_copied() -> None:
    module = nn.Sequential(nn.GroupNorm(2, 4), nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)))
    before = {name: parameter.data_ptr() for name, parameter in module.named_parameters()}
    steady(module)
    assert not any(isinstance(child, nn.GroupNorm) for child in module.modules())
    assert {name: parameter.data_ptr() for name, parameter in module.named_parameters()} == before
