"""How a checkpoint's image processor treats a picture: preprocessor_config.json in, the runtime's record out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calotype.errors import CheckpointError
from calotype.processors import ImageProcessor


def record(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of `calotype.processors.ImageProcessor`, whose pixel values here have one size for all pictures.

    Raises CheckpointError where the size depends on the picture, and for classes that are not imitated.
    """
    found = ImageProcessor.from_config(config)
    if found.crop is None and (found.height is None or found.keep_aspect_ratio):
        raise CheckpointError(
            "preprocessor_config.json: the size of the pixel values depends on the picture, expected a fixed one",
            "set keep_aspect_ratio to false, and size to a height and a width",
        )
    return found.to_json()
