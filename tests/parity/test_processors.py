"""Image processors against transformers', the safety decision against diffusers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calotype.processors import ImageProcessor, flagged

transformers = pytest.importorskip("transformers")

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("CLIPImageProcessorPil", {}),
    ("CLIPImageProcessorPil", {"size": {"shortest_edge": 90}, "crop_size": {"height": 128, "width": 100}}),
    ("CLIPImageProcessorPil", {"size": 32, "crop_size": 32}),
    ("CLIPImageProcessorPil", {"do_center_crop": False}),
    ("DPTImageProcessorPil", {}),
    ("DPTImageProcessorPil", {"size": 48, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.2, 0.3, 0.4]}),
    ("DPTImageProcessorPil", {"keep_aspect_ratio": True, "ensure_multiple_of": 32}),
    ("DPTImageProcessorPil", {"keep_aspect_ratio": False, "ensure_multiple_of": 7}),
    ("DPTImageProcessorPil", {"do_normalize": False, "resample": 2}),
    ("DPTImageProcessorPil", {"do_rescale": False}),
    ("ViTImageProcessorPil", {"size": {"height": 352, "width": 352}, "image_mean": [0.485, 0.456, 0.406]}),
    ("ViTImageProcessorPil", {"size": {"height": 30, "width": 50}, "resample": 3, "do_resize": True}),
]
SIZES = [(64, 64), (512, 512), (77, 301), (640, 480), (224, 225)]


@pytest.mark.parametrize(("name", "changes"), CONFIGS, ids=range(len(CONFIGS)))
def test_pixel_values_are_those_of_transformers(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    theirs = getattr(transformers, name)(**changes)
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    for ours in (
        ImageProcessor.from_config(config),
        ImageProcessor.from_config({"image_processor_type": name.removesuffix("Pil"), **changes}),
    ):
        for height, width in SIZES:
            pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
            picture = Image.fromarray(pixels)
            expected = theirs(picture, return_tensors="np").pixel_values
            np.testing.assert_array_equal(ours(picture), expected, f"{height}x{width}")
            assert ours.output_size(height, width) == expected.shape[2:]


def scores(seed: int, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Cosine distances around their thresholds, many of them within rounding of one."""
    chance = np.random.default_rng(seed)
    special_thresholds = chance.uniform(0.1, 0.3, 3).astype(np.float32)
    concept_thresholds = chance.uniform(0.1, 0.3, 17).astype(np.float32)
    special = special_thresholds + chance.normal(-0.004, 0.004, (count, 3)).astype(np.float32)
    concepts = concept_thresholds + chance.normal(-0.012, 0.006, (count, 17)).astype(np.float32)
    return special, concepts, special_thresholds, concept_thresholds


def test_pictures_are_flagged_as_by_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = pytest.importorskip("torch")
    module: Any = pytest.importorskip("diffusers.pipelines.stable_diffusion.safety_checker")
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.CLIPConfig(
        vision_config={**tower, "image_size": 8, "patch_size": 8}, text_config={**tower}, projection_dim=4
    )
    checker = module.StableDiffusionSafetyChecker(config).eval()
    verdicts: list[bool] = []
    for seed in range(8):
        special, concepts, special_thresholds, concept_thresholds = scores(seed, 100)
        checker.special_care_embeds_weights.data = torch.from_numpy(special_thresholds)
        checker.concept_embeds_weights.data = torch.from_numpy(concept_thresholds)
        given = iter([torch.from_numpy(special), torch.from_numpy(concepts)])
        monkeypatch.setattr(module, "cosine_distance", lambda *_, given=given: next(given))
        _, expected = checker(torch.zeros(100, 3, 8, 8), [np.zeros((2, 2, 3))] * 100)
        assert flagged(special, concepts, special_thresholds, concept_thresholds).tolist() == expected
        verdicts += expected
    assert 0.1 < np.mean(verdicts) < 0.9
