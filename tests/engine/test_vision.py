"""What is shown to the programs that look at pictures, and what is kept of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype.backends import Array
from calotype.vision import DepthEstimator, SafetyChecker
from tests.engine.tiny import pipeline_of

COLOURS = {"red": (1.0, 0.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class Spy:
    """A program that is told about, which answers with one buffer that it writes into again and again."""

    def __init__(self, **answers: Array) -> None:
        self.seen: list[Array] = []
        self._answers = answers

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.seen.append(inputs["pixel_values"].copy())
        for answer in self._answers.values():
            answer[:] = len(self.seen)
        return self._answers


def test_the_safety_checker_is_shown_each_picture_in_its_colours() -> None:
    checker: Any = pipeline_of("plain")._loaded.safety_checker
    spy: Any = Spy(special_scores=np.zeros((1, 3)), concept_scores=np.zeros((1, 17)))
    pictures = np.stack([np.full((64, 64, 3), colour, np.float32) for colour in COLOURS.values()])
    SafetyChecker(checker._processor, checker._thresholds, spy)(pictures)

    for seen, name in zip(spy.seen, COLOURS, strict=True):
        np.testing.assert_array_equal(seen, checker._processor(Image.new("RGB", (64, 64), name)))


@pytest.mark.parametrize("flagged", [[], [0], [1], [0, 1]])
def test_each_picture_is_flagged_by_its_own_scores(flagged: list[int]) -> None:
    checker: Any = pipeline_of("plain")._loaded.safety_checker
    scores = {index: float(index in flagged) for index in range(2)}

    class Scored(Spy):
        def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            answers = super().run(inputs)
            return {name: answer * 0 + scores[len(self.seen) - 1] for name, answer in answers.items()}

    spy: Any = Scored(special_scores=np.zeros((1, 1)), concept_scores=np.zeros((1, 1)))
    thresholds = (np.array([2.0]), np.array([0.5]))
    found = SafetyChecker(checker._processor, thresholds, spy)(np.zeros((2, 64, 64, 3), np.float32))
    assert found == [index in flagged for index in range(2)]


def test_the_depth_of_a_picture_is_kept_when_the_next_one_is_estimated() -> None:
    estimator: Any = pipeline_of("depth")._loaded.senses.depth_estimator
    spy: Any = Spy(depth=np.zeros((1, 4, 4), np.float32))
    depth = DepthEstimator(estimator._processor, spy)([Image.new("RGB", (64, 64))] * 2)

    assert depth[:, 0, 0].tolist() == [1, 2]
