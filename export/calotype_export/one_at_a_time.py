"""Models of a checkpoint of which one is in memory: each is loaded when it is called, and the one before it let go."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

from calotype_export import components
from calotype_export.checkpoint import Checkpoint


class OneAtATime:
    """Loads the models of `checkpoint`, each in its own of `dtypes`; `loads` names them in the order of loading."""

    def __init__(self, checkpoint: Checkpoint, dtypes: Mapping[str, torch.dtype]) -> None:
        self.dtypes = dtypes
        self.loads: list[str] = []
        self._checkpoint = checkpoint
        self._present: nn.Module | None = None

    def get(self, name: str) -> Any:
        """The model `name`, which stays until another one is asked for."""
        if self._present is None or self.loads[-1] != name:
            self._present = None
            gc.collect()
            self._present = self._checkpoint.load(name, self.dtypes[name])
            self.loads.append(name)
        return self._present

    def stand_in(self, name: str) -> nn.Module:
        """What a pipeline of diffusers takes for the model `name`: it knows the config, and loads when it is called."""
        return _StandIn(self, name, components.skeleton(self._checkpoint.models[name].config))


class _StandIn(nn.Module):
    def __init__(self, models: OneAtATime, name: str, skeleton: Any) -> None:
        super().__init__()
        self._get: Callable[[], Any] = lambda: models.get(name)
        self.config = skeleton.config
        self.dtype = models.dtypes["unet"]  # what the pipeline gives, and takes
        self.device = torch.device("cpu")

    @property
    def forward(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The loaded model's."""
        return self._get().forward

    def encode(self, pictures: Tensor) -> Any:
        """The loaded VAE's, whatever it computes in."""
        vae = self._get()
        moments = vae.encode(pictures.to(vae.dtype)).latent_dist.parameters.to(pictures.dtype)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))
