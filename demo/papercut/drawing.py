"""Ways to draw, all called alike: through the compiled runtime, or through eager diffusers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
STEPS: Final = 25
GUIDANCE: Final = 2.5


@dataclass(frozen=True, slots=True)
class Order:
    """One picture to draw; `image` (H, W, 3), `mask` (H, W) bool and `depth` (H, W) where the task has them."""

    prompt: str
    seed: int
    image: Picture | None = None
    mask: NDArray[np.bool_] | None = None
    depth: NDArray[np.float32] | None = None
    strength: float = 1.0


Draw = Callable[[Order], Picture]


def compiled(bundle: Path) -> Draw:
    """Draw through the compiled runtime from a bundle that `calotype-export` wrote."""
    from calotype import Pipeline

    pipeline = Pipeline.load(bundle)

    def draw(order: Order) -> Picture:
        return np.asarray(pipeline(seed=order.seed, **_arguments(order)).images[0].convert("RGB"))

    return draw


def eager(checkpoint: Path, pipeline_class: type[Any]) -> Draw:
    """Draw through a pipeline class of diffusers, on the CPU in float32."""
    import torch

    pipeline = pipeline_class.from_pretrained(checkpoint, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def draw(order: Order) -> Picture:
        arguments = _arguments(order)
        if "depth_map" in arguments:
            arguments["depth_map"] = torch.from_numpy(arguments["depth_map"])
        generator = torch.Generator("cpu").manual_seed(order.seed)
        return np.asarray(pipeline(generator=generator, **arguments).images[0].convert("RGB"))

    return draw


def _arguments(order: Order) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "prompt": order.prompt,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
    }
    if order.image is not None:
        arguments |= {"image": Image.fromarray(order.image), "strength": order.strength}
    if order.mask is not None:
        arguments["mask_image"] = Image.fromarray(order.mask.astype(np.uint8) * 255)
    if order.depth is not None:
        arguments["depth_map"] = order.depth[None]
    return arguments
