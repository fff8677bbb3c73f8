"""What looks at pictures: the VAE, the depth estimator, the safety checker and the segmenter, over their programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype import images
from calotype.backends import Program, Row
from calotype.errors import BackendError, RequestError
from calotype.processors import ImageProcessor, flagged
from calotype.reading import finite
from calotype.tokenizer import Tokenizer

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Moments:
    """The VAE's posterior of some pictures, both (n, C, H, W) and scaled as the UNet sees latents."""

    mean: Array
    deviation: Array

    def sample(self, draw: Array) -> Array:
        """mean + deviation * draw (diffusers' `DiagonalGaussianDistribution.sample`)."""
        return self.mean + self.deviation * draw


class Vae:
    """Pictures to latents and back, one picture a run."""

    def __init__(self, encoder: Program, decoder: Program) -> None:
        self._encoder = encoder
        self._decoder = decoder

    def encode(self, pixels: Array) -> Moments:
        """The posterior of `pixels`, (n, 3, height, width) in [-1, 1]."""
        found: list[tuple[Row, Row]] = []
        for row in _copied(pixels):
            self._encoder.launch({"image": row[None]})
            found.append((self._encoder.keep("mean", 0), self._encoder.keep("deviation", 0)))
        mean, deviation = (np.stack([np.asarray(row) for row in side]) for side in zip(*found, strict=True))
        return Moments(mean, deviation)

    def decode(self, latents: Array) -> Array:
        """Pictures (n, height, width, 3) in [0, 1] from scaled latents (n, C, H, W), n above 0.

        RequestError where there is none, BackendError as from `read`.
        """
        if not len(latents):
            raise RequestError("latents: expected those of a picture at least, found none")
        return self.read(self.launch([*_copied(latents)]))

    def launch(self, latents: Sequence[Row]) -> list[Row]:
        """Decode scaled latents (C, H, W) where they lie: pictures (height, width, 3), for `read`."""
        pictures: list[Row] = []
        for row in latents:
            self._decoder.launch({"latents": [row]})
            pictures.append(self._decoder.keep("image", 0))
        return pictures

    def read(self, decoded: Sequence[Row]) -> Array:
        """Pictures (n, height, width, 3) in [0, 1] from what `launch` gave.

        BackendError when the decoder gave numbers that are not finite, or nothing but black.
        """
        pictures = finite(decoded, "vae_decoder: the picture holds", _HALF_HINT)
        np.clip(pictures, 0.0, 1.0, out=pictures)
        if not pictures.reshape(len(pictures), -1).any(axis=1).all():
            raise BackendError("vae_decoder: the picture is black in every pixel", _HALF_HINT)
        return pictures


class DepthEstimator:
    """Pictures to relative depth, nearer is larger."""

    def __init__(self, processor: ImageProcessor, program: Program) -> None:
        self._processor = processor
        self._program = program

    def __call__(self, pictures: list[Image.Image]) -> Array:
        """Depth (n, h, w) as the estimator predicts it, in its own resolution and unit."""
        rows = [
            self._program.run({"pixel_values": self._processor(picture)})["depth"].copy()
            for picture in pictures
        ]
        return np.concatenate(rows)


class SafetyChecker:
    """Finds pictures that the checkpoint's authors did not want to be shown."""

    def __init__(self, processor: ImageProcessor, thresholds: tuple[Array, Array], program: Program) -> None:
        self._processor = processor
        self._thresholds = thresholds
        self._program = program

    def __call__(self, pictures: Array) -> list[bool]:
        """Whether each of `pictures`, (n, height, width, 3) in [0, 1], is flagged."""
        special, concept = self._thresholds
        found: list[bool] = []
        for picture in images.to_pil(pictures):
            scores = self._program.run({"pixel_values": self._processor(picture)})
            decision = flagged(scores["special_scores"], scores["concept_scores"], special, concept)
            found.append(bool(decision[0]))
        return found


class Segmenter:
    """Finds what words name in a picture (CLIPSeg)."""

    def __init__(self, processor: ImageProcessor, tokenizer: Tokenizer, program: Program) -> None:
        self._processor = processor
        self._tokenizer = tokenizer
        self._program = program

    def __call__(self, picture: Image.Image, words: str) -> Image.Image:
        """A mask of the picture's size: white where the probability of `words` is over a half."""
        tokens = self._tokenizer.encode(words)
        attended = np.arange(len(tokens.ids)) < tokens.count + 2  # the words, between start and end
        outputs = self._program.run(
            {
                "pixel_values": self._processor(picture),
                "input_ids": tokens.ids[None],
                "attention_mask": attended[None].astype(np.int64),
            }
        )
        logits = images.resize_bilinear(outputs["logits"], picture.height, picture.width)[0]
        return Image.fromarray(np.where(logits > 0.0, 255, 0).astype(np.uint8), "L")


_HALF_HINT = "half precision overflows in some VAEs: export this checkpoint with --vae-precision fp32"


def _copied(rows: Array) -> Array:
    return np.ascontiguousarray(rows, dtype=np.float32)
