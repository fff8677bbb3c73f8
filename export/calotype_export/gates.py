"""How far a result may lie from eager diffusers: two arrays in, figures out, ParityError for a miss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calotype.errors import ParityError

Array = NDArray[np.float32]

# Relative L2 in fp32. A program is a chain of a few hundred sums in float32, in another order than torch's: 1e-6 to
# 1e-5 is usual. Half of the whole picture's bound is left for the two programs whose errors meet in every step.
FP32_BOUNDS: Mapping[str, float] = {
    "text_encoder": 5e-5,
    "unet_step": 5e-5,
    "vae_encoder": 1e-4,  # the deviation is an exponential, which magnifies
    "vae_decoder": 1e-4,  # a 40th of the smallest step of an 8-bit picture
    "depth_estimator": 1e-4,
    "safety_checker": 1e-4,  # scores are rounded to 1e-3 before they are compared with a threshold
    "segmenter": 1e-4,
    "pipeline": 1e-4,
}
# In fp16 and bf16: multiples of eager's own distance between that precision and fp32.
LOW_PRECISION_FACTOR = 1.5
PIXELS_WITHIN = 0.999  # of the pixels' values, in fp32
PIXEL = 1 / 255


@dataclass(frozen=True, slots=True)
class Distance:
    """How far an array lies from a reference. NaN where either is not finite."""

    relative_l2: float
    cosine: float
    max_abs: float


def distance(found: Sequence[Array], reference: Sequence[Array]) -> Distance:
    """The distance of arrays from their references: of each pair, taken as one vector, the worst counts."""
    pairs = [_distance(one, other) for one, other in zip(found, reference, strict=True)]
    return Distance(
        relative_l2=_worst([pair.relative_l2 for pair in pairs]),
        cosine=-_worst([-pair.cosine for pair in pairs]),
        max_abs=_worst([pair.max_abs for pair in pairs]),
    )


def _distance(found: Array, reference: Array) -> Distance:
    a, b = found.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Distance(math.nan, math.nan, math.nan)
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    difference = float(np.linalg.norm(a - b))
    return Distance(
        relative_l2=difference / norms[1] if norms[1] else difference,
        cosine=float(a @ b) / (norms[0] * norms[1]) if norms[0] and norms[1] else float(norms[0] == norms[1]),
        max_abs=float(np.abs(a - b).max(initial=0.0)),
    )


def _worst(values: Sequence[float]) -> float:
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def pixels_within(found: Array, reference: Array) -> float:
    """The share of values of two pictures in [0, 1] that differ by at most 1/255."""
    return float((np.abs(found.astype(np.float64) - reference) <= PIXEL + 1e-9).mean())


@dataclass(frozen=True, slots=True)
class Gate:
    """The largest relative L2 that `subject` may have, and what that bound is."""

    subject: str  # "unet_step (batch 2)"
    bound: float
    reason: str

    def check(self, found: Distance, backend: str) -> None:
        """Raise ParityError, which names the program and by how much it misses, unless `found` is within."""
        if found.relative_l2 <= self.bound:
            return
        if math.isnan(found.relative_l2):
            raise ParityError(
                f"{self.subject} gives numbers that are not finite in {backend}",
                "a checkpoint whose activations are too large for fp16 needs --precision bf16 or fp32",
            )
        times = found.relative_l2 / self.bound if self.bound else math.inf
        raise ParityError(
            f"{self.subject} misses its gate: relative L2 against eager diffusers, in {backend}: expected at most "
            f"{self.bound:.2e} ({self.reason}), found {found.relative_l2:.2e}, {times:.3g} times as much",
            "compare the versions of torch, diffusers and the backend with those that the project pins",
        )


def gate(subject: str, program: str, eager: Distance | None) -> Gate:
    """The gate of `program`. `eager` is the distance between eager's low precision and its fp32; None in fp32."""
    if eager is None:
        return Gate(subject, FP32_BOUNDS[program], "fp32")
    if math.isnan(eager.relative_l2):
        raise ParityError(
            f"{subject} gives numbers that are not finite in eager diffusers at this precision",
            "choose --precision bf16 or fp32 for this checkpoint",
        )
    reason = f"{LOW_PRECISION_FACTOR} times eager's own distance from fp32, {eager.relative_l2:.2e}"
    return Gate(subject, LOW_PRECISION_FACTOR * eager.relative_l2, reason)


def is_black(picture: Array) -> bool:
    """Whether no value of a picture is over 0: a sign of numbers that overflowed on the way."""
    return picture.size > 0 and float(picture.max()) <= 0


def check_picture(subject: str, picture: Array) -> None:
    """Raise ParityError for a picture that is black."""
    if is_black(picture):
        raise ParityError(
            f"{subject} gives a black picture", "choose --precision bf16 or fp32 for this checkpoint"
        )
