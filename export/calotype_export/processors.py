"""What a checkpoint's image processor does, as plain numbers: preprocessor_config.json in, a record out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calotype.errors import CheckpointError

_FLAGS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")


def record(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`height` and `width` (or `shortest_edge`) to resize to with PIL's filter `resample`, the crop, and the scaling.

    Raises CheckpointError for what fixed-shape programs cannot take: sizes that depend on the picture.
    """
    size, crop = config.get("size", 384), config.get("crop_size", 224)
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type", ""))
    cropped = bool(config.get("do_center_crop", kind.startswith("CLIP")))
    if config.get("keep_aspect_ratio") or config.get("do_pad"):
        raise CheckpointError("preprocessor_config.json keeps the aspect ratio, so that shapes follow the picture",
                              "set keep_aspect_ratio and do_pad to false")  # fmt: skip
    edge = size if isinstance(size, int) and cropped else _part(size, "shortest_edge")
    flags = {name: bool(config.get(name, True)) for name in _FLAGS} | {"do_center_crop": cropped}
    final = crop if cropped else size
    return {
        "image_processor_type": kind,
        **flags,
        "height": final if isinstance(final, int) else final["height"],
        "width": final if isinstance(final, int) else final["width"],
        "shortest_edge": edge,
        "resample": int(config.get("resample", 3)),
        "rescale_factor": float(config.get("rescale_factor", 1 / 255)),
        "image_mean": [float(value) for value in config["image_mean"]],
        "image_std": [float(value) for value in config["image_std"]],
    }


def _part(size: Any, name: str) -> int | None:
    return size.get(name) if isinstance(size, dict) else None
